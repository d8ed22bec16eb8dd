/** The local runtime's state: a dot, a word, the model; progress while it loads; the reason and the remedy where it cannot run. */

import { component, h, say, set } from './dom.js';
import { bytes, duration, words } from './words.js';

/**
 * @typedef {object} State see facts.status
 * @property {string} state @property {string|null} runtime @property {string} webgpu 'yes', 'no' or 'unknown'
 * @property {string|null} model @property {string} name
 * @property {string|null} reason @property {string|null} remedy
 * @property {{message: string}|null} error
 * @property {{vendor: string, architecture: string, description: string, software: boolean}} adapter
 * @property {number} threads with runtime wasm
 * @property {number} progress 0 to 1 @property {number} loadedBytes @property {number} totalBytes @property {number|null} etaS
 * @property {string} text what the engine says it is doing
 */

/** @param {State} state @returns {string} */
function title({ state, webgpu, name }) {
  if (state === 'unloaded' && webgpu === 'unknown') return words.checking;
  const word = words.states[state] ?? state;
  return name && state !== 'unloaded' ? `${word}: ${name}` : word;
}

/** @param {State} state @returns {string[]} what there is to say beside the title */
function lines({ state, reason, remedy, error, adapter, webgpu, runtime, threads }) {
  if (state === 'unsupported') return [reason ?? '', remedy ?? ''];
  if (state === 'error') return [error?.message ?? ''];
  const why = runtime === 'wasm' ? [webgpu === 'no' ? words.processor : words.processorWished, webgpu === 'no' ? `${reason ?? ''} ${remedy ?? ''}`.trim() : ''] : [];
  if (state === 'unloaded') return webgpu === 'unknown' ? [] : [words.unloadedHint, ...why];
  if (state !== 'ready') return [];
  if (runtime === 'wasm') return [words.threads(words.runtimes[runtime] ?? runtime, threads), ...why];
  const graphics = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ');
  return [[words.runtimes[runtime ?? ''], graphics].filter(Boolean).join(', '), adapter.software ? words.software : ''];
}

/** @param {State} state @returns {string} how much is done and how long it still takes */
function share({ progress, etaS }) {
  return [`${Math.floor(progress * 100)}\u202f%`, etaS ? words.left(duration(etaS)) : ''].filter(Boolean).join(' · ');
}

/** @param {State} state @returns {string} what is being done; the engine says it with its bytes */
const doing = ({ text, loadedBytes, totalBytes }) => text || (totalBytes ? words.of(bytes(loadedBytes), bytes(totalBytes)) : '');

export const render = component((root, /** @type {(message: object) => void} */ send) => {
  const heading = h('p', { class: 'state' });
  const text = h('span');
  heading.append(h('span', { class: 'dot', 'aria-hidden': 'true' }), text);
  const notes = h('div', { class: 'notes' });
  const bar = h('div', { class: 'bar' }, h('i'));
  const told = h('p', { class: 'figures' });
  const detail = h('p', { class: 'doing' });
  const cancel = h('button', { type: 'button', class: 'quiet', 'data-testid': 'cancel-load', text: words.cancel, onclick: () => send({ action: 'cancel' }) });
  const progress = h(
    'div',
    { class: 'progress', role: 'progressbar', 'data-testid': 'load-progress', 'aria-label': words.loadProgress, 'aria-valuemin': 0, 'aria-valuemax': 100 },
    bar, told, detail,
  );
  const loading = h('div', { class: 'loading' }, progress, cancel);
  const card = h('div', { class: 'card', 'data-testid': 'local-status' }, h('div', { role: 'status' }, heading, notes), loading);
  root.append(h('h2', { text: words.inThisBrowser }), card);
  let shown = '';

  return (/** @type {State} */ state) => {
    set(card, { 'data-state': state.state, 'data-runtime': state.runtime, 'data-webgpu': state.webgpu, 'data-model': state.model });
    say(text, title(state));
    const said = lines(state).filter(Boolean);
    if (said.join('\n') !== shown) notes.replaceChildren(...said.map((line) => h('p', { text: line })));
    shown = said.join('\n');
    loading.hidden = state.state !== 'loading';
    if (loading.hidden) return;
    const percent = Math.floor(state.progress * 100);
    set(progress, { 'aria-valuenow': percent, 'aria-valuetext': `${share(state)}, ${doing(state)}` });
    bar.style.setProperty('--done', `${percent}%`);
    say(told, share(state));
    say(detail, doing(state));
  };
});
