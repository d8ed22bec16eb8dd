/** What may be spent, what was, and what the next message would take here and on the server. */

import { complaint, field, h, say, set } from './dom.js';
import { catalogue, duration, money } from './words.js';

/** @import {Ask} from './dom.js' */
/** @typedef {{limit: number|null, spent: number, state: string}} Period */
/** @typedef {{month: Period, session: Period}} Budget */

const words = catalogue.settings;

/** @param {{seconds: number|null}} side @returns {string} */
const time = ({ seconds }) => (seconds === null || seconds === undefined ? words.unknownTime : words.aboutTime(duration(seconds)));

/**
 * @param {Ask} ask
 * @returns {{node: HTMLElement, show: (budget: Budget) => void, weigh: () => Promise<void>}}
 */
export function spending(ask) {
  const limit = (/** @type {'month'|'session'} */ period) => h('input', { name: period, inputmode: 'decimal', placeholder: words.noLimit, autocomplete: 'off', 'data-testid': `budget-${period}`, onchange: () => void change(period) });
  const inputs = { month: limit('month'), session: limit('session') };
  const lines = { month: h('p', { class: 'line', 'data-testid': 'spent-month' }), session: h('p', { class: 'line', 'data-testid': 'spent-session' }) };
  const next = h('p', { class: 'line', 'data-testid': 'estimate' });
  const node = h('div', {}, h('h3', { text: words.budget }),
    h('div', { class: 'form' }, field(words.month, inputs.month), lines.month, field(words.session, inputs.session), lines.session, h('p', { class: 'line', text: words.budgetMeans })),
    h('h3', { text: words.next }), next);

  /** @param {'month'|'session'} period */
  async function change(period) {
    const text = inputs[period].value.trim().replace(',', '.');
    const value = text === '' ? null : Number.isFinite(Number(text)) ? Number(text) : text;
    complaint(inputs, null);
    await ask({ action: 'set-budget', change: { [period]: value } }).catch((error) => complaint({ [period]: inputs[period] }, error));
  }

  return {
    node,
    show(budget) {
      for (const period of /** @type {('month'|'session')[]} */ (['month', 'session'])) {
        const { limit: most, spent, state } = budget[period];
        say(lines[period], [words.spent(money(spent), most === null ? '' : money(most)), words.budgetState[state] ?? ''].filter(Boolean).join('. '));
        set(lines[period], { 'data-state': state });
        const input = inputs[period];
        if (!input.matches(':focus') && input.getAttribute('aria-invalid') !== 'true') input.value = most === null ? '' : String(most);
      }
    },
    async weigh() {
      const { local, cloud } = await ask({ action: 'estimate', text: /** @type {HTMLTextAreaElement|null} */ (document.getElementById('composer'))?.value ?? '' });
      const cost = cloud.cost === null || cloud.cost === undefined ? words.unknownCost : cloud.cost === 0 ? words.free : money(cloud.cost);
      say(next, [local.ready ? words.nextLocal(time(local)) : '', cloud.ready ? words.nextCloud(time(cloud), cost) : ''].filter(Boolean).join(' · '));
      set(next, { 'data-cost': cloud.cost, 'data-seconds': local.seconds });
    },
  };
}
