/** The models: one to choose, with its size and whether it fits; then load, unload or delete it. */

import { component, h, icon, keep, say, set } from './dom.js';
import { bytes, duration, words } from './words.js';

/**
 * @typedef {object} Entry see facts.models
 * @property {string} id @property {string} name @property {string} quantisation @property {number} bytes @property {number} vramBytes
 * @property {number} context @property {string} licence @property {string} origin @property {boolean} testOnly
 * @property {string} state 'built', 'building', 'missing' or 'failed'
 * @property {{fraction: number|null, text: string, etaS: number|null}} build
 * @property {string|null} error @property {boolean} fits @property {string} reason @property {boolean} cached
 */
/** @typedef {{models: Entry[], active: string|null, state: string, chosen: string|null}} State */
/** @typedef {HTMLLabelElement & {parts: {input: HTMLInputElement, name: HTMLElement, badge: HTMLElement, facts: HTMLElement, note: HTMLElement, bar: HTMLElement}}} Option */

/** @param {Entry} entry @returns {string} */
function describe({ bytes: size, quantisation, context }) {
  return [size ? bytes(size) : '', quantisation, context ? words.tokens(context) : ''].filter(Boolean).join(' · ');
}

/** @param {Entry} entry @param {boolean} possible whether any model can run here; where none can, the status says why @returns {string} */
function note({ id, state, build, error, fits, reason }, possible) {
  if (state === 'building') {
    const share = build.fraction === null ? '' : `${Math.floor(build.fraction * 100)}\u202f%`;
    const eta = build.etaS ? words.left(duration(build.etaS)) : '';
    return [words.building, share, eta, build.text].filter(Boolean).join(' · ');
  }
  if (state === 'failed') return words.failed(error ?? '');
  if (state === 'missing') return words.missing(id);
  return fits || !possible ? '' : reason;
}

/** @param {Entry} entry @param {(id: string) => void} choose @returns {Option} */
function make(entry, choose) {
  const input = h('input', { type: 'radio', name: 'model', value: entry.id, onchange: () => choose(entry.id) });
  const name = h('span', { class: 'name' });
  const badge = h('span', { class: 'badge' }, icon('check'), words.cached);
  const facts = h('span', { class: 'facts' });
  const noted = h('span', { class: 'note' });
  const bar = h('span', { class: 'bar' }, h('i'));
  const option = h('label', { class: 'option', 'data-testid': 'model-option' }, input, name, facts, badge, noted, bar);
  return Object.assign(option, { parts: { input, name, badge, facts, note: noted, bar } });
}

/** @param {Option} option @param {Entry} entry @param {boolean} chosen @param {boolean} possible */
function update(option, entry, chosen, possible) {
  const { input, name, badge, facts, note: noted, bar } = option.parts;
  const yes = (/** @type {boolean} */ value) => (value ? 'yes' : 'no');
  set(option, { 'data-model': entry.id, 'data-fits': yes(entry.fits), 'data-cached': yes(entry.cached), 'data-state': entry.state, title: entry.origin });
  input.checked = chosen;
  say(name, entry.name);
  badge.hidden = !entry.cached;
  say(facts, describe(entry));
  say(noted, note(entry, possible));
  noted.hidden = !noted.textContent;
  bar.hidden = entry.state !== 'building';
  bar.style.setProperty('--done', `${Math.floor((entry.build.fraction ?? 0) * 100)}%`);
}

export const render = component((root, /** @type {(message: object) => void} */ send) => {
  const list = h('div', { class: 'options' });
  const tests = h('div', { class: 'options' });
  const more = h('div', { class: 'tests', role: 'group', 'aria-label': words.tests }, h('h3', { text: words.tests }), tests);
  const empty = h('p', { class: 'line', text: words.noModels });
  const load = h('button', { type: 'button', class: 'primary', 'data-testid': 'load-model', onclick: () => send({ action: 'load', model: chosen }) });
  const unload = h('button', { type: 'button', 'data-testid': 'unload-model', text: words.unload, onclick: () => send({ action: 'unload' }) });
  const remove = h('button', { type: 'button', class: 'danger', 'data-testid': 'delete-model', onclick: () => send({ action: 'delete', model: chosen }) });
  const picker = h('fieldset', { 'data-testid': 'model-picker' }, h('legend', { text: words.models }), empty, list, more);
  root.append(picker, h('div', { class: 'buttons' }, load, unload, remove));
  /** @type {Map<string, Option>} */
  const options = new Map();
  /** @type {Map<string, Option>} */
  const testOptions = new Map();
  /** @type {string|null} */
  let chosen = null;
  /** @type {State} */
  let last = { models: [], active: null, state: '', chosen: null };

  /** @param {string} id */
  function choose(id) {
    chosen = id;
    show(last);
  }

  /** @param {Entry|undefined} entry */
  function buttons(entry) {
    const active = entry !== undefined && entry.id === last.active;
    const [loading, ready] = [active && last.state === 'loading', active && last.state === 'ready'];
    const size = bytes(entry?.bytes ?? 0);
    say(load, loading ? words.loading : ready ? words.loaded : entry && !entry.cached && entry.bytes ? words.loadIt(size) : words.load);
    const loadable = entry !== undefined && entry.fits && (entry.state === 'built' || entry.state === 'building');
    load.disabled = !loadable || loading || ready;
    load.hidden = ready;
    unload.hidden = !ready;
    remove.hidden = !entry?.cached;
    say(remove, words.remove(size));
    remove.disabled = loading;
    for (const button of [load, remove]) set(button, { 'data-model': entry?.id });
  }

  /** @param {State} state */
  function show(state) {
    last = state;
    if (!state.models.some(({ id }) => id === chosen)) chosen = state.chosen;
    const refresh = (/** @type {Option} */ option, /** @type {Entry} */ entry) => update(option, entry, entry.id === chosen, state.state !== 'unsupported');
    const making = (/** @type {Entry} */ entry) => make(entry, choose);
    const [real, forTests] = [state.models.filter((entry) => !entry.testOnly), state.models.filter((entry) => entry.testOnly)];
    keep(options, list, real, making, refresh);
    keep(testOptions, tests, forTests, making, refresh);
    empty.hidden = state.models.length > 0;
    more.hidden = forTests.length === 0;
    buttons(state.models.find(({ id }) => id === chosen));
  }

  return (/** @type {State} */ state) => {
    // A load that began elsewhere (the address bar, an earlier visit) is what the person wants to see chosen.
    if (state.active && state.active !== last.active) chosen = state.active;
    show(state);
  };
});
