/** The line under a reply: who answered, with what, how much, how fast, for how much. */

import { element, icon } from './dom.js';
import { number } from './figures.js';
import { strings } from './strings.js';

/** @import {MessageState, Provider, Stats} from './protocol.js' */

/** @param {number} ms */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${number(ms / 1000, 1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** @param {number} perSecond */
export const rate = (perSecond) => number(perSecond, perSecond < 10 ? 2 : perSecond < 100 ? 1 : 0);

/**
 * @param {Stats['cost']} cost
 * @returns {string} empty when it is not known
 */
export function price(cost) {
  const amount = typeof cost === 'object' ? cost?.amount : cost;
  if (typeof amount !== 'number' || !Number.isFinite(amount)) return '';
  const currency = (typeof cost === 'object' && cost?.currency) || 'USD';
  if (amount === 0) return strings.free;
  return new Intl.NumberFormat(document.documentElement.lang, { style: 'currency', currency, maximumSignificantDigits: 2 }).format(amount);
}

/** @param {unknown} n @returns {n is number} */
const known = (n) => typeof n === 'number' && Number.isFinite(n);

/** @typedef {{provider?: Provider|null, model?: string|null, state?: MessageState, stats?: Stats|null, edited?: boolean}} Reply */

/**
 * @param {Reply} reply
 * @returns {string[]} the figures in order, without the provider
 */
export function figures({ model, state, stats, edited }) {
  const { usage = {}, timings = {}, cost, fallback } = stats ?? {};
  return [
    model ?? stats?.model ?? '',
    known(usage.completionTokens) ? strings.tokens(usage.completionTokens) : '',
    known(timings.ttftMs) ? strings.ttft(duration(timings.ttftMs)) : '',
    known(timings.decodeTps) ? strings.rate(rate(timings.decodeTps)) : '',
    price(cost),
    fallback ? strings.fellBack : '',
    state === 'stopped' ? strings.wasStopped : '',
    edited ? strings.edited : '',
  ].filter(Boolean);
}

/**
 * @param {Reply} reply
 * @returns {HTMLElement}
 */
export function statsLine(reply) {
  const line = element('p', 'stats');
  line.dataset.testid = 'stats';
  const provider = reply.provider ?? reply.stats?.provider;
  if (provider) {
    const badge = element('span', 'badge');
    badge.dataset.provider = provider;
    badge.append(icon(provider), strings[provider]);
    line.append(badge);
  }
  for (const figure of figures(reply)) line.append(element('span', 'figure', figure));
  if (reply.stats?.note) line.append(element('span', 'note', strings.note(reply.stats.note)));
  if (reply.stats?.decision) line.append(reason(reply.stats.decision));
  return line;
}

/** @param {string} decision auto mode's @returns {HTMLElement} why it chose so, on demand */
function reason(decision) {
  const box = element('details', 'why');
  box.dataset.testid = 'why';
  box.append(element('summary', '', strings.why), element('span', '', strings.decision(decision)));
  return box;
}
