/** How answers went over time: the controls, Bokeh's plots as Panel's children, and the same figures as a table for those who cannot see plots. */

import { component, h, revealed, set, twice } from './dom.js';
import { average, catalogue, money, number } from './words.js';

const words = catalogue.telemetry;

/** @typedef {[number|null, number|null]} Pair p50 and p95 */
/** @typedef {{provider: string, model: string, requests: number, tokens: number, cost: number, ttft: Pair, total: Pair, rate: Pair}} Row */
/** @typedef {{open: boolean, measure: string, span: string, rows?: Row[], changes?: Record<string, number>, errors?: Record<string, number>}} State see telemetry.py */

/** Pixels from which on the list of chats, the chat and a wide panel have room beside each other. */
const ROOMY = 1600;

/** The tokens that the plots are drawn with. */
const LOOK = ['text', 'muted', 'line', 'local', 'cloud', 'warn'];

/** @returns {Record<string, string>} the page's colours as they are now: a canvas knows no custom properties */
function look() {
  const probe = h('i', { hidden: true });
  document.body.append(probe);
  const colours = LOOK.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(colours);
}

/** @param {Pair} pair @param {(value: number|null) => string} said */
const both = ([half, most], said) => (half === null ? '–' : `${said(half)} / ${said(most)}`);

/** @param {number|null} value */
const rate = (value) => (value === null ? '–' : number(value, value < 10 ? 1 : 0));

/** @param {Row} row */
function line({ provider, model, requests, tokens, cost, ttft, total, rate: rates }) {
  const cells = [number(requests), both(ttft, average), both(total, average), both(rates, rate), number(tokens), cost ? money(cost) : '–'];
  return h('tr', { 'data-provider': provider }, h('th', { scope: 'row', text: model }), ...cells.map((text) => h('td', { text })));
}

/** @param {string} code of an error @returns {string} */
const why = (code) => catalogue.errors[code] ?? code;

/** @param {string} json a file that Python made */
function download(json) {
  if (!json) return;
  const { name, mime, text } = JSON.parse(json);
  const link = h('a', { href: URL.createObjectURL(new Blob([text], { type: mime })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * @param {Record<string, string>} choices
 * @param {string} label
 * @param {(value: string) => void} choose
 */
function choice(choices, label, choose) {
  const select = h('select', { 'aria-label': label, onchange: () => choose(select.value) }, ...Object.entries(choices).map(([value, text]) => h('option', { value, text })));
  return select;
}

export const render = component((root, send, model) => {
  const tell = (/** @type {string} */ what, /** @type {object} */ more = {}) => send({ action: 'telemetry', do: what, ...more });
  const measure = choice(words.measures, words.measure, (value) => tell('choose', { measure: value }));
  const span = choice(words.spans, words.span, (value) => tell('choose', { span: value }));
  const wide = h('button', { type: 'button', class: 'widen', 'aria-pressed': 'false', text: words.widen, onclick: () => widen() });
  const plots = h('div', { class: 'plots', role: 'group', 'aria-label': words.drawn });
  const body = h('tbody');
  const table = h('table', {}, h('caption', { text: words.table }), h('thead', {}, h('tr', {}, ...words.columns.map((text) => h('th', { scope: 'col', text })))), body);
  const counts = h('ul', { class: 'recent' });
  const none = h('p', { class: 'line', text: words.none });
  const button = (/** @type {string} */ text, /** @type {() => void} */ onclick, name = '') => h('button', { type: 'button', text, onclick, 'data-testid': name });
  const clear = button(words.clear, () => {}, 'telemetry-clear');
  const buttons = h('div', { class: 'buttons pair' }, wide, button(words.csv, () => tell('export', { format: 'csv' }), 'telemetry-csv'), button(words.json, () => tell('export', { format: 'json' }), 'telemetry-json'), clear);
  const sure = twice(clear, { ask: words.sure, yes: words.sureYes, no: words.sureNo }, () => tell('clear'));
  const panel = h('details', { 'data-testid': 'telemetry', ontoggle: () => (panel.open ? tell('open', { words: words.plots, look: look() }) : (tell('close'), widen(false))) },
    h('summary', { text: words.title }), h('p', { class: 'line', text: words.stays }), h('div', { class: 'choices' }, measure, span), none, plots, h('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': words.table }, table), counts, buttons, sure);
  root.append(panel);
  revealed('telemetry', panel);

  let folded = false;

  /** Plots want room: where that would leave the chat too little, the list of chats is folded meanwhile. @param {boolean} [to] */
  function widen(to = document.body.dataset.wide === undefined) {
    if (to === (document.body.dataset.wide !== undefined)) return;
    if (to) document.body.dataset.wide = '';
    else delete document.body.dataset.wide;
    set(wide, { 'aria-pressed': String(to) });
    const list = /** @type {HTMLButtonElement|null} */ (document.getElementById('history-toggle'));
    const open = list?.ariaExpanded === 'true';
    const fold = to && open && innerWidth < ROOMY;
    if (fold || (!to && folded && !open)) {
      list?.click();
      wide.focus();
    }
    folded = fold;
  }

  const place = () => plots.replaceChildren(...(model.get_child('plots') ?? []));
  place();
  model.on('plots', place);
  model.on('file', () => download(model.file));
  const repaint = () => panel.open && tell('look', { look: look() });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ['data-theme'] });

  return (/** @type {State} */ state) => {
    const { rows = [], changes = {}, errors = {} } = state;
    [measure.value, span.value] = [state.measure, state.span];
    none.hidden = !state.open || rows.length > 0;
    table.hidden = rows.length === 0;
    body.replaceChildren(...rows.map(line));
    const said = (/** @type {Record<string, number>} */ all, /** @type {(name: string) => string} */ name) => Object.entries(all).map(([key, count]) => h('li', {}, h('b', { text: number(count) }), ` ${name(key)}`));
    counts.replaceChildren(
      ...said(changes, (key) => words.cause(words.kinds[key.split(':')[0] ?? ''] ?? key, why(key.slice(key.indexOf(':') + 1)))),
      ...said(errors, (key) => words.cause(words.kinds.error ?? '', why(key))),
    );
  };
});
