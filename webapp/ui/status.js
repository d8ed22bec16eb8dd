/** The local runtime's state: a dot, a word, the model; progress while it loads; the reason and the remedy where it cannot run. */

import { component, h, reveal, say, set } from './dom.js';
import { bytes, catalogue, duration, sayError, sayReason, words } from './words.js';

const more = catalogue.models;

/**
 * @typedef {object} State see facts.status
 * @property {string} state @property {string|null} runtime @property {string} webgpu 'yes', 'no' or 'unknown'
 * @property {string|null} model @property {string} name
 * @property {string|null} reason @property {string|null} remedy
 * @property {{code: string, args: Record<string, any>}} lacks what reason and remedy are called in words.reasons
 * @property {{code?: string, message: string}|null} error
 * @property {{vendor: string, architecture: string, description: string, software: boolean}} adapter
 * @property {number} threads with runtime wasm
 * @property {string} wish 'auto', 'webgpu' or 'wasm' @property {string} why what decided on the runtime: a key of words.why, or 'webgpu'
 * @property {number} progress 0 to 1 @property {number} loadedBytes @property {number} totalBytes @property {number|null} etaS
 * @property {number|null} bytesPerSecond @property {string} phase 'download' or 'load' @property {string} step a key of words.steps
 * @property {string} text what the engine, or the server's build, says it is doing @property {boolean} shared by another tab's doing
 */

/** @param {State} state @returns {string} */
function title({ state, webgpu, name }) {
  if (state === 'unloaded' && webgpu === 'unknown') return words.checking;
  const word = words.states[state] ?? state;
  return name && state !== 'unloaded' ? `${word}: ${name}` : word;
}

/** @param {State} state @returns {string[]} why this runtime, where that is not what everybody expects */
function because({ why, webgpu, lacks, reason, remedy }) {
  return [words.why[why] ?? '', why === 'no_webgpu' && webgpu === 'no' ? sayReason(lacks.code, lacks.args, reason, remedy) : ''];
}

/** @param {State} state @returns {string[]} what there is to say beside the title */
function lines(state) {
  const { lacks, reason, remedy, error, adapter, webgpu, runtime, threads } = state;
  if (state.state === 'unsupported') return [sayReason(lacks.code, lacks.args, reason, remedy)];
  if (state.state === 'error') return [error ? sayError(error) : '', ...because(state)];
  if (state.state === 'unloaded') return webgpu === 'unknown' ? [] : [words.unloadedHint, ...because(state)];
  if (state.state === 'loading') return state.shared ? [more.shared] : [];
  if (state.state !== 'ready') return [];
  if (state.shared) return [more.shared, ...because(state)];
  if (runtime === 'wasm') return [words.threads(words.runtimes[runtime] ?? runtime, threads), ...because(state)];
  const graphics = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ');
  return [[words.runtimes[runtime ?? ''], graphics].filter(Boolean).join(', '), adapter.software ? words.software : '', ...because(state)];
}

/** @param {State} state @returns {string} how much is done and how long it still takes */
function share({ progress, etaS, bytesPerSecond }) {
  const rate = bytesPerSecond ? more.rate(bytes(bytesPerSecond)) : '';
  return [`${Math.floor(progress * 100)}\u202f%`, rate, etaS ? words.left(duration(etaS)) : ''].filter(Boolean).join(' · ');
}

/** @param {State} state @returns {string} what is being done; of a build that is waited for the server says it */
function doing({ text, step, phase, loadedBytes, totalBytes }) {
  const said = more.steps[step] ?? more.builds[step];
  if (said && (phase !== 'download' || !loadedBytes)) return said;
  return phase === 'download' && totalBytes ? words.of(bytes(loadedBytes), bytes(totalBytes)) : text;
}

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
  const pause = h('button', { type: 'button', 'data-testid': 'pause-load', text: more.pause, onclick: () => send({ action: 'pause' }) });
  const loading = h('div', { class: 'loading' }, progress, h('div', { class: 'buttons' }, pause, cancel));
  const wishes = Object.entries(words.wishes).map(([value, name]) => h('option', { value, text: name }));
  const wish = /** @type {HTMLSelectElement} */ (h('select', { 'data-testid': 'runtime' }, ...wishes));
  wish.addEventListener('change', () => send({ action: 'set-runtime', runtime: wish.value }));
  const runs = h('label', { class: 'runtime' }, h('span', { text: words.runsOn }), wish);
  const doctor = h('button', { type: 'button', class: 'quiet', 'data-testid': 'open-doctor', text: catalogue.doctor.title, onclick: () => reveal('doctor') });
  const card = h('div', { class: 'card', 'data-testid': 'local-status' }, h('div', { role: 'status' }, heading, notes), loading, runs, doctor);
  root.append(h('h2', { text: words.inThisBrowser }), card);
  let shown = '';

  return (/** @type {State} */ state) => {
    set(card, { 'data-state': state.state, 'data-runtime': state.runtime, 'data-webgpu': state.webgpu, 'data-model': state.model });
    say(text, title(state));
    set(wish, { 'data-why': state.why });
    if (wish.value !== state.wish) wish.value = state.wish;
    doctor.hidden = state.state !== 'unsupported' && state.state !== 'error' && !['no_webgpu', 'failing'].includes(state.why);
    const said = lines(state).filter(Boolean);
    if (said.join('\n') !== shown) notes.replaceChildren(...said.map((line) => h('p', { text: line })));
    shown = said.join('\n');
    loading.hidden = state.state !== 'loading';
    if (loading.hidden) return;
    pause.hidden = state.phase !== 'download';
    const percent = Math.floor(state.progress * 100);
    set(progress, { 'aria-valuenow': percent, 'aria-valuetext': `${share(state)}, ${doing(state)}` });
    bar.style.setProperty('--done', `${percent}%`);
    say(told, share(state));
    say(detail, doing(state));
  };
});
