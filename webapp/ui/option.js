/** One model in the picker: its name, what it is, whether it fits and is here, how far its build or its download is. */

import { h, icon, say, set } from './dom.js';
import { bytes, catalogue, duration, sayReason, words as views } from './words.js';

/** @import {Entry} from './sieve.js' */
/** @typedef {HTMLLabelElement & {parts: {input: HTMLInputElement, name: HTMLElement, badge: HTMLElement, facts: HTMLElement, note: HTMLElement, bar: HTMLElement}}} Option */

const words = catalogue.models;

/** @param {string} address @returns {string} */
const host = (address) => address.replace(/^https?:\/\//, '');

/** @param {Entry} entry @returns {string} */
export function describe({ bytes: size, estimated, quantisation, context, vramBytes, hosts }) {
  const weight = size ? (estimated ? words.about(bytes(size)) : bytes(size)) : '';
  return [
    weight, quantisation, context ? views.tokens(context) : '', vramBytes ? words.needs(bytes(vramBytes)) : '', hosts[0] ? words.from(host(hosts[0])) : '',
  ].filter(Boolean).join(' · ');
}

/** @param {Entry} entry @param {boolean} possible whether any model can run here; where none can, the status says why @returns {string} */
function note({ id, state, build, error, fits, reason, lacks, begun }, possible) {
  if (state === 'building') {
    const share = build.fraction === null ? '' : `${Math.floor(build.fraction * 100)}\u202f%`;
    const eta = build.etaS ? views.left(duration(build.etaS)) : '';
    return [views.building, share, eta, words.builds[build.step] ?? build.text].filter(Boolean).join(' · ');
  }
  if (state === 'failed') return views.failed(error ?? '');
  if (state === 'missing') return views.missing(id);
  if (fits || !possible) return begun ? words.begun(bytes(begun.have), bytes(begun.bytes)) : '';
  return sayReason(lacks.code, lacks.args, reason);
}

/** @param {Entry} entry @param {(id: string) => void} choose @returns {Option} */
export function make(entry, choose) {
  const input = h('input', { type: 'radio', name: 'model', value: entry.id, onchange: () => choose(entry.id) });
  const name = h('span', { class: 'name' });
  const badge = h('span', { class: 'badge' }, icon('check'), views.cached);
  const facts = h('span', { class: 'facts' });
  const noted = h('span', { class: 'note' });
  const bar = h('span', { class: 'bar' }, h('i'));
  const option = h('label', { class: 'option', 'data-testid': 'model-option' }, input, name, facts, badge, noted, bar);
  return Object.assign(option, { parts: { input, name, badge, facts, note: noted, bar } });
}

/** @param {Entry} entry @returns {number|null} what the bar shows, 0 to 1; null for none */
function done({ state, build, begun }) {
  if (state === 'building') return build.fraction ?? 0;
  return begun?.bytes ? begun.have / begun.bytes : null;
}

/** @param {Option} option @param {Entry} entry @param {boolean} chosen @param {boolean} possible */
export function update(option, entry, chosen, possible) {
  const { input, name, badge, facts, note: noted, bar } = option.parts;
  const yes = (/** @type {boolean} */ value) => (value ? 'yes' : 'no');
  set(option, {
    'data-model': entry.id, 'data-fits': yes(entry.fits), 'data-cached': yes(entry.cached), 'data-state': entry.state,
    'data-source': entry.source, 'data-begun': yes(entry.begun !== null), title: [entry.origin, entry.licence].filter(Boolean).join(', '),
  });
  input.checked = chosen;
  say(name, entry.name);
  badge.hidden = !entry.cached;
  say(facts, describe(entry));
  say(noted, note(entry, possible));
  noted.hidden = !noted.textContent;
  const share = done(entry);
  bar.hidden = share === null;
  bar.style.setProperty('--done', `${Math.floor((share ?? 0) * 100)}%`);
}
