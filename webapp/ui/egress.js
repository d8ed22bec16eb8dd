/** The receipts of what left this browser for a model on the server: when, how much, to whom and why. */

import { component, h, revealed, set } from './dom.js';
import { bytes, words } from './words.js';

/** @typedef {{at: number, bytes: number, model: string, cause: string, redacted: number}} Receipt */
/** @typedef {{policy: string, receipts: Receipt[]}} State see facts.egress */

/** @param {Receipt} receipt */
function row({ at, bytes: sent, model, cause, redacted }) {
  const why = [words.causes[cause] ?? cause, redacted ? words.redacted(redacted) : ''].filter(Boolean).join(', ');
  const when = new Date(at * 1000).toLocaleTimeString(document.documentElement.lang, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  return h('tr', { title: model }, ...[when, bytes(sent), why].map((text) => h('td', { text })));
}

export const render = component((root, send) => {
  const count = h('span', { class: 'count' });
  const body = h('tbody');
  const table = h('table', {}, h('thead', {}, h('tr', {}, ...words.egressColumns.map((text) => h('th', { scope: 'col', text })))), body);
  const none = h('p', { class: 'line', text: words.egressNone });
  const policy = h('select', { 'data-testid': 'egress-general', onchange: () => send({ action: 'set-policy', policy: policy.value }) },
    ...Object.entries(words.egress).map(([value, text]) => h('option', { value, text })));
  const general = h('label', { class: 'gate' }, h('span', { text: words.mayLeaveEver }), policy);
  const log = h('details', { 'data-testid': 'egress-log' }, h('summary', {}, words.egressLog, count), general, none, table);
  root.append(log);
  revealed('egress-log', log);

  return (/** @type {State} */ { policy: now, receipts }) => {
    policy.value = now;
    none.hidden = receipts.length > 0;
    table.hidden = receipts.length === 0;
    count.textContent = String(receipts.length);
    set(log, { 'data-count': receipts.length });
    body.replaceChildren(...receipts.map(row));
  };
});
