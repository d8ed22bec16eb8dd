/** The doctor: each thing that matters here with how it stands and what would help, and a report that holds nothing private. */

import { component, h, revealed, say, set } from './dom.js';
import { bytes, catalogue, sayError, sayReason } from './words.js';

/**
 * @typedef {{name: string, level: 'good'|'note'|'bad', args: Record<string, any>}} Check
 * @typedef {{id: string, name: string, fits: boolean, reason: string, code: string, args: Record<string, any>}} Fit
 * @typedef {{checks: Check[], models: Fit[], known: boolean}} State see doctor.doctor
 */

const words = catalogue.doctor;

/** @param {Record<string, any>} args @returns {object} what came as a code, in this page's language */
const told = ({ code, lacks, reason, remedy, message }) =>
  message === undefined ? { reason: sayReason(code, lacks, sayError({ code, message: [reason, remedy].filter(Boolean).join(' ') })), remedy: '' } : { message: message && sayError({ code, message }) };

/** @param {Check} check @returns {HTMLElement} */
function line({ name, level, args }) {
  const said = words.checks[name];
  const free = args.quota === undefined ? '' : bytes(Math.max(0, args.quota - args.usage));
  const what = said?.[level]({ ...args, ...told(args), free }) ?? '';
  return h('li', { 'data-check': name, 'data-level': level },
    h('span', { class: 'dot', role: 'img', 'aria-label': words.levels[level] }), h('b', { text: said?.name ?? name }),
    h('p', { text: what }), ...(level === 'good' || !said?.remedy ? [] : [h('p', { text: said.remedy })]));
}

/** @returns {object} what the browser says of itself: closed words and figures */
const browser = () => ({
  userAgent: navigator.userAgent, language: document.documentElement.lang, cores: navigator.hardwareConcurrency,
  memoryGB: /** @type {{deviceMemory?: number}} */ (navigator).deviceMemory ?? null, online: navigator.onLine, screen: `${innerWidth}x${innerHeight}@${devicePixelRatio}`,
});

export const render = component((root, _send, _model, ask) => {
  const list = h('ul', { class: 'checks' });
  const lacks = h('details', {}, h('summary', { text: words.lacks }), h('ul', { class: 'recent' }));
  const again = h('button', { type: 'button', 'data-testid': 'examine', text: words.again, onclick: () => void examine() });
  const copy = h('button', { type: 'button', 'data-testid': 'copy-diagnostics', text: words.copy, onclick: () => void take() });
  const told = h('p', { class: 'line', role: 'status', 'data-testid': 'doctor-result' });
  const report = h('pre', { class: 'report', tabindex: 0, 'data-testid': 'diagnostics' });
  const box = h('details', { 'data-testid': 'doctor', ontoggle: () => void (box.open && examine()) }, h('summary', { text: words.title }),
    list, lacks, h('div', { class: 'buttons' }, again, copy), told, report);
  report.hidden = true;
  root.append(box);
  revealed('doctor', box);
  /** @type {Check|undefined} how the server was when it was asked */
  let server;

  /** @param {Check[]} checks @param {Fit[]} models */
  function draw(checks, models) {
    list.replaceChildren(...checks.map((check) => line(check.name === 'server' && server ? server : check)));
    const unfit = models.filter(({ fits }) => !fits);
    lacks.hidden = !unfit.length;
    lacks.lastElementChild?.replaceChildren(...unfit.map(({ name, reason, code, args }) => h('li', {}, h('b', { text: name }), ` ${sayReason(code, args, reason)}`)));
    set(box, { 'data-bad': checks.filter(({ level }) => level === 'bad').length });
  }

  async function examine() {
    again.disabled = true;
    say(told, words.examining);
    try {
      const found = await ask({ action: 'examine' });
      server = found.checks.find((/** @type {Check} */ { name }) => name === 'server');
      draw(found.checks, found.models);
      say(told, '');
      return found.report;
    } catch (error) {
      say(told, catalogue.settings.failed(/** @type {Error} */ (error).message));
      return null;
    } finally {
      again.disabled = false;
    }
  }

  async function take() {
    const found = await examine();
    if (!found) return;
    report.textContent = JSON.stringify({ browser: browser(), ...found }, null, 2);
    report.hidden = false;
    await navigator.clipboard.writeText(report.textContent).then(() => say(told, words.copied), () => say(told, words.copyFails));
  }

  return (/** @type {State} */ state) => {
    if (state.known) draw(state.checks, state.models);
  };
});
