/** Who the model is to be in this conversation: a choice, and a form for making, changing and deleting a person's own. */

import { complaint, component, field, h, say, set } from './dom.js';
import { catalogue, words as views } from './words.js';

/**
 * @typedef {{name: string, mode: string|null, model: string|null, private: boolean, egress: string|null, system: string|null,
 *   options: Record<string, any>}} Persona
 * @typedef {{personas: Persona[], current: string|null, chosen: string|null, models: string[]}} State see personas.persona
 */

const words = catalogue.persona;

/** @param {string} text @returns {number|string|null} a number where it is one; what is none goes on as it is, for Python to refuse */
const figure = (text) => (text.trim() === '' ? null : Number.isFinite(Number(text)) ? Number(text) : text);

export const render = component((root, send, _, ask) => {
  const choice = h('select', { 'data-testid': 'persona', 'aria-label': words.title, onchange: () => send({ action: 'choose-persona', name: choice.value }) });
  const edit = h('button', { type: 'button', class: 'quiet', 'data-testid': 'edit-persona', text: words.edit, onclick: () => open(current()) });
  const create = h('button', { type: 'button', class: 'quiet', 'data-testid': 'new-persona', text: words.create, onclick: () => open(null) });
  const inputs = {
    name: h('input', { name: 'name', required: true, autocomplete: 'off' }),
    system: h('textarea', { name: 'system', rows: 4 }),
    mode: h('select', { name: 'mode' }, h('option', { value: '', text: words.anyMode }), ...Object.entries(views.modes).map(([value, text]) => h('option', { value, text }))),
    model: h('input', { name: 'model', placeholder: words.anyModel, list: 'persona-models', autocomplete: 'off' }),
    temperature: h('input', { name: 'temperature', inputmode: 'decimal', autocomplete: 'off' }),
    max_output_tokens: h('input', { name: 'max_output_tokens', inputmode: 'numeric', autocomplete: 'off' }),
  };
  const models = h('datalist', { id: 'persona-models' });
  const [closed, standard] = [h('input', { type: 'checkbox', name: 'private' }), h('input', { type: 'checkbox', name: 'standard' })];
  const remove = h('button', { type: 'button', class: 'danger', 'data-testid': 'delete-persona', text: words.remove, onclick: () => void drop() });
  const form = h('form', { class: 'form entry', 'data-testid': 'persona-form', novalidate: true, onsubmit: (event) => (event.preventDefault(), void save()) },
    field(words.name, inputs.name), field(words.system, inputs.system), field(words.mode, inputs.mode), field(words.model, inputs.model), models,
    field(words.temperature, inputs.temperature), field(words.maxTokens, inputs.max_output_tokens),
    h('label', { class: 'tick' }, closed, h('span', { text: words.privately })), h('label', { class: 'tick' }, standard, h('span', { text: words.standard })),
    h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary', 'data-testid': 'save-persona', text: words.save }),
      h('button', { type: 'button', text: words.cancel, onclick: () => close() }), remove));
  const line = h('p', { class: 'line', role: 'status' });
  root.append(h('h2', { text: words.title }), h('div', { class: 'row' }, choice, edit, create), form, line);
  form.hidden = true;
  /** @type {State} */
  let last = { personas: [], current: null, chosen: null, models: [] };
  /** @type {Persona|null} what is edited; null for a new one */
  let edited = null;

  const current = () => last.personas.find(({ name }) => name === (last.chosen ?? last.current)) ?? null;

  /** @param {Persona|null} persona */
  function open(persona) {
    edited = persona;
    inputs.name.value = persona?.name ?? '';
    inputs.system.value = persona?.system ?? '';
    inputs.mode.value = persona?.mode ?? '';
    inputs.model.value = persona?.model ?? '';
    inputs.temperature.value = String(persona?.options.temperature ?? '');
    inputs.max_output_tokens.value = String(persona?.options.max_output_tokens ?? '');
    closed.checked = persona?.private ?? false;
    standard.checked = persona !== null && persona.name === last.current;
    remove.hidden = persona === null;
    complaint(inputs, null);
    say(line, '');
    form.hidden = false;
    inputs.name.focus();
  }

  function close() {
    form.hidden = true;
    choice.focus();
  }

  async function save() {
    const options = { ...edited?.options, temperature: figure(inputs.temperature.value), max_output_tokens: figure(inputs.max_output_tokens.value) };
    const persona = {
      system: inputs.system.value.trim() || null, mode: inputs.mode.value || null, model: inputs.model.value.trim() || null,
      private: closed.checked, egress: edited?.egress ?? null, options: Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)),
    };
    const name = inputs.name.value.trim();
    complaint(inputs, null);
    try {
      await ask({ action: 'save-persona', name, before: edited?.name ?? null, persona });
      if (edited === null) await ask({ action: 'choose-persona', name });
      const was = edited !== null && edited.name === last.current;
      if (standard.checked || was) await ask({ action: 'default-persona', name: standard.checked ? name : null });
      close();
    } catch (error) {
      if (!complaint(inputs, error)) say(line, catalogue.settings.failed(/** @type {Error} */ (error).message));
    }
  }

  async function drop() {
    if (!edited) return;
    await ask({ action: 'delete-persona', name: edited.name }).then(() => say(line, words.removed(edited?.name ?? '')), (error) => say(line, catalogue.settings.failed(error.message)));
    close();
  }

  return (/** @type {State} */ state) => {
    last = state;
    const none = state.current ? words.asPage(state.current) : words.none;
    const wanted = ['', ...state.personas.map(({ name }) => name)];
    choice.replaceChildren(...wanted.map((name) => h('option', { value: name, text: name || none })));
    choice.value = state.chosen ?? '';
    set(choice, { 'data-chosen': state.chosen, 'data-current': state.current });
    edit.hidden = current() === null;
    models.replaceChildren(...state.models.map((value) => h('option', { value })));
  };
});
