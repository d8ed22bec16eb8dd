/** What each provider did in this session, and the last times that one took over from the other. */

import { component, h, say } from './dom.js';
import { average, number, words } from './words.js';

/** @typedef {{requests: number, tokens: number, averageMs: number|null, errors: number}} Spent */
/** @typedef {'local'|'cloud'} Provider */
/**
 * @typedef {object} State see facts.usage
 * @property {Record<Provider, Spent>} providers
 * @property {number} fallbacks @property {number} handovers
 * @property {{from: Provider, to: Provider, reason: string}[]} recent
 * @property {{from: string, to: string, manual: boolean}[]} switches
 */

/** @param {Provider} provider @param {Spent} spent */
function row(provider, { requests, tokens, averageMs, errors }) {
  const cells = [number(requests), number(tokens), average(averageMs), number(errors)];
  return h('tr', { 'data-provider': provider }, h('th', { scope: 'row', text: words.providers[provider] }), ...cells.map((text) => h('td', { text })));
}

export const render = component((root) => {
  const body = h('tbody');
  const table = h(
    'table', {},
    h('thead', {}, h('tr', {}, ...words.columns.map((text) => (text ? h('th', { scope: 'col', text }) : h('td'))))),
    body,
  );
  const none = h('p', { class: 'line', text: words.none });
  const summary = h('p', { class: 'line' });
  const recent = h('ul', { class: 'recent' });
  root.append(h('h2', { text: words.usage }), h('div', { 'data-testid': 'usage' }, none, table, summary, recent));

  return (/** @type {State} */ { providers, fallbacks, recent: changes }) => {
    const used = (/** @type {Provider[]} */ (['local', 'cloud'])).filter((name) => providers[name].requests > 0);
    none.hidden = used.length > 0;
    table.hidden = used.length === 0;
    body.replaceChildren(...used.map((name) => row(name, providers[name])));
    say(summary, fallbacks ? words.fallbacks(fallbacks) : '');
    summary.hidden = !fallbacks;
    recent.replaceChildren(
      ...changes.map(({ from, to, reason }) =>
        h('li', {}, h('b', { text: words.fellBack(words.providers[from] ?? from, words.providers[to] ?? to) }), reason ? ` ${reason}` : ''),
      ),
    );
  };
});
