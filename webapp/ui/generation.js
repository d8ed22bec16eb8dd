/** How answers are made in the open conversation; each setting is checked by the orchestrator as it is given, and refused in its place. */

import { complaint, component, field, h, revealed, say, set } from './dom.js';
import { catalogue } from './words.js';

/** @typedef {Record<string, any>} Settings by the orchestrator's names */
/** @typedef {{conversation: string, settings: Settings, presets: Record<string, Settings>}} State see personas.generation */

const words = catalogue.generation;

/** @param {string} text @returns {number|null} @throws {Error} where it is none */
function figure(text) {
  if (!text.trim()) return null;
  const value = Number(text.replace(',', '.'));
  if (Number.isFinite(value)) return value;
  throw new Error(words.noNumber);
}

/** @param {string} text @returns {object|null} `response_format` @throws {Error} */
function format(text) {
  if (!text.trim()) return null;
  let schema;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    throw new Error(words.noJson(/** @type {Error} */ (error).message));
  }
  const any = schema && typeof schema === 'object' && Object.keys(schema).length === 0;
  return any ? { type: 'json_object' } : { type: 'json_schema', json_schema: { name: 'answer', schema } };
}

/** @param {any} form @returns {string} */
const schemaText = (form) => (!form ? '' : form.type === 'json_object' ? '{}' : JSON.stringify(form.json_schema?.schema ?? form.schema ?? {}, null, 2));

/** How each control's text becomes a setting and back. @type {Record<string, {read: (text: string) => any, write: (value: any) => string}>} */
const MANNERS = {
  temperature: { read: figure, write: (value) => String(value ?? '') },
  top_p: { read: figure, write: (value) => String(value ?? '') },
  max_output_tokens: { read: figure, write: (value) => String(value ?? '') },
  seed: { read: figure, write: (value) => String(value ?? '') },
  stop: { read: (text) => { const lines = text.split('\n').filter(Boolean); return lines.length ? lines : null; }, write: (value) => (typeof value === 'string' ? value : (value ?? []).join('\n')) },
  system: { read: (text) => text.trim() || null, write: (value) => value ?? '' },
  response_format: { read: format, write: schemaText },
};

export const render = component((root, send, _, ask) => {
  const few = (/** @type {string} */ name, /** @type {string} */ mode) => h('input', { name, inputmode: mode, placeholder: words.asModel, autocomplete: 'off', 'data-setting': name });
  const many = (/** @type {string} */ name, /** @type {number} */ rows) => h('textarea', { name, rows, spellcheck: name === 'system' ? 'true' : 'false', 'data-setting': name });
  const inputs = /** @type {Record<string, HTMLInputElement|HTMLTextAreaElement>} */ ({
    system: many('system', 3), temperature: few('temperature', 'decimal'), top_p: few('top_p', 'decimal'),
    max_output_tokens: few('max_output_tokens', 'numeric'), stop: many('stop', 2), seed: few('seed', 'numeric'), response_format: many('response_format', 4),
  });
  inputs.response_format?.classList.add('code');
  const says = /** @type {Record<string, [string, string]>} */ ({
    system: [words.system, ''], temperature: [words.temperature, words.temperatureHint], top_p: [words.topP, words.topPHint],
    max_output_tokens: [words.maxOutputTokens, ''], stop: [words.stop, words.stopHint], seed: [words.seed, words.seedHint], response_format: [words.schema, words.schemaHint],
  });
  const presets = h('select', { 'data-testid': 'preset', 'aria-label': words.presets, onchange: () => presets.value && tell({ action: 'use-preset', name: presets.value }) });
  const name = h('input', { name: 'preset', 'aria-label': words.presetName, placeholder: words.presetName, 'data-testid': 'preset-name', autocomplete: 'off' });
  const keep = h('button', { type: 'button', 'data-testid': 'save-preset', text: words.savePreset, onclick: () => void save() });
  const drop = h('button', { type: 'button', class: 'quiet', 'data-testid': 'delete-preset', text: words.deletePreset, onclick: () => tell({ action: 'delete-preset', name: presets.value }) });
  const reset = h('button', { type: 'button', class: 'quiet', 'data-testid': 'reset-settings', text: words.reset,
    onclick: () => tell({ action: 'set-settings', change: Object.fromEntries(Object.keys(MANNERS).map((setting) => [setting, null])) }) });
  const line = h('p', { class: 'line', role: 'status' });
  const changed = h('span', { class: 'count' });
  const box = h('details', { 'data-testid': 'generation' }, h('summary', {}, words.title, changed),
    h('div', { class: 'form' }, h('div', { class: 'row' }, presets, drop),
      ...Object.entries(inputs).map(([setting, input]) => field(says[setting]?.[0] ?? '', input, says[setting]?.[1])),
      h('div', { class: 'row' }, name, keep), reset, line));
  root.append(box);
  revealed('generation', box);
  for (const [setting, input] of Object.entries(inputs)) input.addEventListener('change', () => void change(setting));
  let shown = '';
  /** @type {State} */
  let last = { conversation: '', settings: {}, presets: {} };

  /** @param {string} setting */
  async function change(setting) {
    const input = /** @type {HTMLInputElement} */ (inputs[setting]);
    complaint({ [setting]: input }, null);
    try {
      await ask({ action: 'set-settings', change: { [setting]: MANNERS[setting]?.read(input.value) } });
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      complaint({ [setting]: input }, { field: setting, message });
    }
  }

  /** @param {object} message */
  function tell(message) {
    say(line, '');
    ask(message).then(() => { shown = ''; show(last); }, (error) => say(line, catalogue.settings.failed(error.message)));
  }

  async function save() {
    try {
      await ask({ action: 'save-preset', name: name.value });
      presets.dataset.wish = name.value.trim();
      name.value = '';
      say(line, words.saved);
    } catch (error) {
      say(line, catalogue.settings.failed(/** @type {Error} */ (error).message));
    }
  }

  /** @param {State} state */
  function show(state) {
    last = state;
    const count = Object.keys(state.settings).length;
    say(changed, words.changed(count));
    set(box, { 'data-changed': count });
    const names = Object.keys(state.presets);
    const wish = presets.dataset.wish ?? presets.value;
    presets.replaceChildren(h('option', { value: '', text: words.choose }), ...names.map((value) => h('option', { value, text: value })));
    presets.value = names.includes(wish) ? wish : '';
    drop.hidden = !presets.value;
    const now = JSON.stringify([state.conversation, state.settings]);
    if (now === shown) return; // what a person is writing stays as it is
    shown = now;
    for (const [setting, input] of Object.entries(inputs)) {
      if (input.matches(':focus')) continue;
      input.value = MANNERS[setting]?.write(state.settings[setting]) ?? '';
      complaint({ [setting]: input }, null);
    }
  }
  presets.addEventListener('change', () => (drop.hidden = !presets.value));
  return show;
});
