/**
 * The blueprint's widget: what each provider did in this session, whether it can answer now, a button that switches to it, the last
 * times that one took over from the other, and the last switches with whose they were.
 */

import { component, h, say, set } from './dom.js';
import { average, number, sayError, words } from './words.js';

/** @typedef {{requests: number, tokens: number, averageMs: number|null, errors: number}} Spent */
/** @typedef {'local'|'cloud'} Provider */
/**
 * @typedef {object} State see facts.usage
 * @property {Record<Provider, Spent>} providers
 * @property {Record<Provider, boolean>} available @property {string} mode
 * @property {number} fallbacks @property {number} handovers
 * @property {{from: Provider, to: Provider, error: {code?: string, message: string}}[]} recent
 * @property {{from: string, to: string, manual: boolean}[]} switches
 */

const SIDES = /** @type {Provider[]} */ (['local', 'cloud']);

/** @param {Provider} provider @param {Spent} spent @param {boolean} available */
function row(provider, { requests, tokens, averageMs, errors }, available) {
  const cells = [number(requests), number(tokens), average(averageMs), number(errors)];
  const state = h('span', { class: 'dot', role: 'img', 'aria-label': available ? words.canAnswer : words.cannotAnswer, title: available ? words.canAnswer : words.cannotAnswer });
  const name = h('th', { scope: 'row' }, state, ` ${words.providers[provider]}`);
  return h('tr', { 'data-provider': provider, 'data-available': available ? 'yes' : 'no' }, name, ...cells.map((text) => h('td', { text })));
}

/** @param {string} title @param {HTMLElement} list */
const named = (title, list) => h('div', {}, h('h3', { text: title }), list);

export const render = component((root, send) => {
  const body = h('tbody');
  const table = h(
    'table', {},
    h('thead', {}, h('tr', {}, ...words.columns.map((text) => (text ? h('th', { scope: 'col', text }) : h('td'))))),
    body,
  );
  const none = h('p', { class: 'line', text: words.none });
  const summary = h('p', { class: 'line' });
  const [recent, switched] = [h('ul', { class: 'recent' }), h('ul', { class: 'recent' })];
  const [changes, switches] = [named(words.lastChanges, recent), named(words.lastSwitches, switched)];
  const buttons = SIDES.map((side) => h('button', { type: 'button', text: words.use[side], 'data-testid': `use-${side}`, onclick: () => send({ action: 'set-mode', mode: side }) }));
  root.classList.add('ruled');
  root.append(h('h2', { text: words.usage }), h('div', { 'data-testid': 'usage' }, table, none, summary, h('div', { class: 'buttons pair' }, ...buttons), changes, switches));

  return (/** @type {State} */ state) => {
    none.hidden = SIDES.some((name) => state.providers[name].requests > 0);
    body.replaceChildren(...SIDES.map((name) => row(name, state.providers[name], state.available[name])));
    say(summary, state.fallbacks ? words.fallbacks(state.fallbacks) : '');
    summary.hidden = !state.fallbacks;
    buttons.forEach((button, at) => set(button, { 'aria-pressed': String(state.mode === SIDES[at]) }));
    changes.hidden = state.recent.length === 0;
    recent.replaceChildren(
      ...state.recent.map(({ from, to, error }) =>
        h('li', {}, h('b', { text: words.fellBack(words.providers[from] ?? from, words.providers[to] ?? to) }), error.message ? ` ${sayError(error)}` : ''),
      ),
    );
    switches.hidden = state.switches.length === 0;
    switched.replaceChildren(
      ...state.switches.map(({ from, to, manual }) =>
        h('li', {}, h('b', { text: words.fellBack(words.modes[from] ?? from, words.modes[to] ?? to) }), `, ${manual ? words.byHand : words.byItself}`),
      ),
    );
  };
});
