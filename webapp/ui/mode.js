/** The mode control: who answers, one line that says what leaves this browser by it, and what of this conversation may. */

import { component, h, icon, say, set } from './dom.js';
import { words } from './words.js';

/**
 * @typedef {object} State see facts.mode
 * @property {string} mode in force
 * @property {'local'|'main'} place which document this is
 * @property {string} egress what may leave of this conversation
 * @property {string} preferred what the person chose
 * @property {string[]} modes
 * @property {{state: string, reason: string|null, name: string}} local
 * @property {{available: boolean, reason: string}} cloud
 */

const STEPS = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 });

/** @param {string} mode @returns {'local'|'cloud'} */
const side = (mode) => (mode.startsWith('local') ? 'local' : 'cloud');

/** @param {State} state @returns {string} what leaves this browser, as things are now */
function leaves({ mode, place, preferred, local, cloud }) {
  if (place === 'local') return words.closed;
  if (!cloud.available && side(mode) === 'cloud') return local.state === 'ready' && mode !== 'cloud-only' ? words.cloudAwayHere : words.cloudAway;
  if (preferred === mode) return words.leaves[mode] ?? '';
  if (local.state === 'unsupported') return `${words.noLocal} ${words.leaves[mode] ?? ''}`;
  return local.state === 'loading' ? words.pendingLoading(local.name) : words.pendingLoad;
}

export const render = component((root, /** @type {(message: object) => void} */ send) => {
  const segments = h('div', { class: 'segments' });
  const line = h('p', { class: 'line', role: 'status' });
  const policy = h('select', { 'data-testid': 'egress-policy', onchange: () => send({ action: 'set-egress', policy: policy.value }) });
  for (const [value, text] of Object.entries(words.egress)) policy.append(h('option', { value, text }));
  const gate = h('label', { class: 'gate' }, h('span', { text: words.mayLeave }), policy);
  const control = h('fieldset', { 'data-testid': 'mode', 'aria-describedby': 'leaves' }, h('legend', { text: words.whoAnswers }), segments, line, gate);
  line.id = 'leaves';
  root.append(control);
  /** @type {Map<string, {label: HTMLElement, input: HTMLInputElement}>} */
  const choices = new Map();
  let here = 'main';

  // An arrow key chooses as it goes by: a choice that leaves this page is only gone to, and Space chooses it.
  segments.addEventListener('keydown', (event) => {
    const inputs = [...choices.values()].map(({ input }) => input).filter(({ disabled }) => !disabled);
    const from = inputs.findIndex((input) => input === event.target);
    const step = STEPS[event.key];
    const next = step && from >= 0 ? inputs[(from + step + inputs.length) % inputs.length] : undefined;
    if (!next || (next.value === 'local-only') === (here === 'local')) return;
    event.preventDefault();
    next.focus();
  });

  /** @param {string} mode */
  function choice(mode) {
    const input = h('input', { type: 'radio', name: 'mode', value: mode, onchange: () => send({ action: 'set-mode', mode }) });
    const automatic = mode === 'auto'; // neither side's icon, and a row of its own between the preferences and the exclusive choices
    const name = h('span', { text: words.modes[mode] ?? mode });
    const label = h('label', { class: `segment ${automatic ? 'auto' : side(mode)}`, 'data-testid': `mode-${mode}` }, input,
      ...(automatic ? [] : [icon(side(mode))]), name);
    segments.append(label);
    const made = { label, input };
    choices.set(mode, made);
    return made;
  }

  return (/** @type {State} */ state) => {
    here = state.place;
    const unsupported = state.local.state === 'unsupported';
    const shown = unsupported && side(state.preferred) === 'local' ? state.mode : state.preferred;
    for (const mode of state.modes) {
      const { label, input } = choices.get(mode) ?? choice(mode);
      input.disabled = unsupported && side(mode) === 'local';
      input.checked = mode === shown;
      set(label, { title: input.disabled && state.local.reason ? words.noLocal : null, 'data-pending': mode === shown && mode !== state.mode });
    }
    set(control, { 'data-mode': state.mode, 'data-preferred': state.preferred });
    say(line, leaves(state));
    policy.value = state.egress;
    gate.hidden = state.mode === 'local-only'; // there is nothing to decide
  };
});
