/** The search field and the filters over the models. */

import { h, say, set } from './dom.js';
import { all, count, kinds } from './sieve.js';
import { bytes, catalogue, number } from './words.js';

/** @import {Entry, Wanted} from './sieve.js' */

const words = catalogue.models;
const SIZES = [250e6, 500e6, 1e9, 2e9, 4e9, 8e9];
const WINDOWS = [1024, 2048, 4096, 8192, 32768];

/**
 * @param {(wanted: Wanted) => void} changed
 * @returns {{node: HTMLElement, show: (entries: Entry[]) => void, wanted: () => Wanted}}
 */
export function filters(changed) {
  let wanted = all();
  const tell = (/** @type {Partial<Wanted>} */ change) => {
    wanted = { ...wanted, ...change };
    say(summary, words.filters(count(wanted)));
    reset.hidden = count(wanted) === 0;
    changed(wanted);
  };
  const search = h('input', { type: 'search', placeholder: words.search, 'aria-label': words.search, 'data-testid': 'model-search', oninput: () => tell({ text: search.value }) });
  const pick = (/** @type {keyof Wanted} */ name, /** @type {string} */ label, /** @type {[string|number, string][]} */ choices) => {
    const select = h('select', { 'data-filter': name, onchange: () => tell({ [name]: typeof choices[0]?.[0] === 'number' ? Number(select.value) : select.value }) });
    select.append(h('option', { value: choices.length && typeof choices[0]?.[0] === 'number' ? 0 : '', text: words.any }), ...choices.map(([value, text]) => h('option', { value, text })));
    return { select, label: h('label', { class: 'field' }, h('span', { text: label }), select) };
  };
  const tick = (/** @type {'fits'|'cached'} */ name, /** @type {string} */ label) => {
    const box = h('input', { type: 'checkbox', 'data-filter': name, onchange: () => tell({ [name]: box.checked }) });
    return { box, label: h('label', { class: 'tick' }, box, h('span', { text: label })) };
  };
  const sizes = /** @type {[number, string][]} */ (SIZES.map((size) => [size, bytes(size)]));
  const family = pick('family', words.family, []);
  const quantisation = pick('quantisation', words.quantisation, []);
  const others = [pick('size', words.size, sizes), pick('vram', words.vram, sizes), pick('context', words.context, WINDOWS.map((window) => [window, number(window)]))];
  const ticks = [tick('fits', words.fits), tick('cached', words.downloaded)];
  const reset = h('button', { type: 'button', class: 'quiet', text: words.reset, onclick: () => clear() });
  const summary = h('summary', { text: words.filters(0) });
  const box = h('details', { class: 'filters', 'data-testid': 'model-filters' }, summary,
    h('div', { class: 'grid' }, family.label, quantisation.label, ...others.map(({ label }) => label)),
    ...ticks.map(({ label }) => label), reset);
  reset.hidden = true;

  function clear() {
    for (const { select } of [family, quantisation, ...others]) select.selectedIndex = 0;
    for (const { box: one } of ticks) one.checked = false;
    tell({ ...all(), text: wanted.text });
  }

  /** @param {HTMLSelectElement} select @param {string[]} found @param {string} now */
  function offer(select, found, now) {
    const had = [...select.options].slice(1).map(({ value }) => value);
    if (had.join('\n') === found.join('\n')) return;
    select.replaceChildren(h('option', { value: '', text: words.any }), ...found.map((value) => h('option', { value, text: value })));
    select.value = found.includes(now) ? now : '';
  }

  return {
    node: h('div', { class: 'tools' }, search, box),
    show(entries) {
      offer(family.select, kinds(entries, 'family'), wanted.family);
      offer(quantisation.select, kinds(entries, 'quantisation'), wanted.quantisation);
      const gone = { ...(family.select.value === wanted.family ? {} : { family: '' }), ...(quantisation.select.value === wanted.quantisation ? {} : { quantisation: '' }) };
      wanted = { ...wanted, ...gone };
      say(summary, words.filters(count(wanted)));
      set(box, { 'data-count': count(wanted) });
    },
    wanted: () => wanted,
  };
}
