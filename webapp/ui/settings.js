/**
 * The settings. What this browser knows is shown at once; what the server keeps (keys, the session) is asked for when they are opened,
 * and nothing of it in the local-only document, which asks the server nothing.
 */

import { component, h, keep, reveal, revealed, say, set, twice } from './dom.js';
import { keys } from './keys.js';
import { looks } from './looks.js';
import { spending } from './spending.js';
import { catalogue, words as views } from './words.js';

/** @import {Budget} from './spending.js' */
/**
 * @typedef {object} State see settings.settings
 * @property {'local'|'main'} place @property {string} mode @property {Budget} budget
 * @property {{handover: string, hedge: boolean, trim: boolean}} recovery
 * @property {string} whileLoading @property {boolean} loadAtStart @property {boolean} telemetry @property {boolean} mermaid @property {string} enter
 * @property {string} runtime @property {string[]} hosts
 */

const words = catalogue.settings;

export const render = component((root, send, _, ask) => {
  const told = h('p', { class: 'line', role: 'status', 'data-testid': 'settings-result' });
  const failed = (/** @type {Error} */ error) => say(told, words.failed(error.message));
  const prefer = (/** @type {string} */ name, /** @type {unknown} */ value) => void ask({ action: 'prefer', name, value }).catch(failed);
  const recover = (/** @type {object} */ change) => void ask({ action: 'set-recovery', change }).catch(failed);
  const tick = (/** @type {string} */ name, /** @type {string} */ text, /** @type {(on: boolean) => void} */ change, hint = '') => {
    const box = h('input', { type: 'checkbox', 'data-testid': `prefer-${name}`, onchange: () => change(box.checked) });
    return { box, nodes: [h('label', { class: 'tick' }, box, h('span', { text })), ...(hint ? [h('p', { class: 'hint', text: hint })] : [])] };
  };
  const pick = (/** @type {string} */ name, /** @type {string} */ text, /** @type {Record<string, string>} */ choices, /** @type {(value: string) => void} */ change) => {
    const select = h('select', { 'data-testid': `prefer-${name}`, onchange: () => change(select.value) }, ...Object.entries(choices).map(([value, label]) => h('option', { value, text: label })));
    return { select, node: h('label', { class: 'field' }, h('span', { text }), select) };
  };
  const key = keys(ask, () => void open());
  const spent = spending(ask);
  const look = looks(prefer);
  const loading = pick('while-loading', words.whileLoading, words.whileLoadings, (value) => prefer('while_loading', value));
  const handover = pick('handover', words.handover, words.handovers, (value) => recover({ handover: value }));
  const runtime = pick('runtime', words.runtime, views.wishes, (value) => send({ action: 'set-runtime', runtime: value }));
  const start = tick('load-at-start', words.loadAtStart, (on) => prefer('load_at_start', on));
  const hedge = tick('hedge', words.hedge, (on) => recover({ hedge: on }), words.hedgeHint);
  const trim = tick('trim', words.trim, (on) => recover({ trim: on }));
  const telemetry = tick('telemetry', words.telemetry, (on) => prefer('telemetry', on), words.telemetryHint);
  const hosts = h('ul', { class: 'checks', 'data-testid': 'allowed-hosts' });
  const noHosts = h('p', { class: 'line', text: words.noHosts });
  const forget = h('button', { type: 'button', class: 'danger', 'data-testid': 'forget-me', text: words.forget });
  const really = twice(forget, { ask: words.forgetAsk, yes: words.forgetYes, no: words.forgetNo }, forgetMe);
  const leave = h('button', { type: 'button', 'data-testid': 'log-out', text: words.leave, onclick: () => void logOut() });
  const account = h('p', { class: 'line' });
  const server = h('div', {}, key.node, h('h3', { text: words.data }), h('div', { class: 'buttons' }, forget, leave), really);
  const box = h('details', { 'data-testid': 'settings', ontoggle: () => void (box.open && open()) }, h('summary', { text: words.title }),
    look.node, h('h3', { text: words.behaviour }), h('div', { class: 'form' }, loading.node, handover.node, runtime.node),
    ...[start, hedge, trim, telemetry].flatMap(({ nodes }) => nodes), spent.node,
    h('h3', { text: words.hosts }), noHosts, hosts, account, server, told,
    h('button', { type: 'button', class: 'quiet', 'data-testid': 'settings-doctor', text: catalogue.doctor.title, onclick: () => reveal('doctor') }));
  root.append(box);
  revealed('settings', box);
  leave.hidden = true;
  /** @type {Map<string, HTMLElement>} */
  const rows = new Map();
  /** @type {State|null} */
  let last = null;

  async function open() {
    spent.weigh().catch(() => {});
    if (last?.place === 'local' || last?.mode === 'local-only') return;
    try {
      const { auth, keys: found } = await ask({ action: 'account' });
      leave.hidden = auth === 'off';
      key.show(found);
      say(account, '');
    } catch (error) {
      say(account, words.accountFails(/** @type {Error} */ (error).message));
    }
  }

  async function forgetMe() {
    await ask({ action: 'forget-me' }).then(() => say(told, words.forgot), failed);
    await open();
  }

  async function logOut() {
    await ask({ action: 'log-out' }).then(() => location.reload(), failed);
  }

  /** @param {string[]} allowed */
  function showHosts(allowed) {
    noHosts.hidden = allowed.length > 0;
    keep(rows, hosts, allowed.map((id) => ({ id })), ({ id }) => h('li', { class: 'row', 'data-host': id }, h('code', { text: id }),
      h('button', { type: 'button', class: 'quiet', 'aria-label': words.hostRemove(id), text: words.forbid,
        onclick: () => void ask({ action: 'allow', instead: true, hosts: (last?.hosts ?? []).filter((host) => host !== id) }).catch(failed) })), () => {});
  }

  return (/** @type {State} */ state) => {
    last = state;
    const quiet = state.place === 'local' || state.mode === 'local-only';
    server.hidden = quiet;
    if (quiet) say(account, words.accountLocal);
    account.hidden = !account.textContent;
    set(box, { 'data-place': state.place });
    look.show(state);
    loading.select.value = state.whileLoading;
    handover.select.value = state.recovery.handover;
    runtime.select.value = state.runtime;
    start.box.checked = state.loadAtStart;
    hedge.box.checked = state.recovery.hedge;
    trim.box.checked = state.recovery.trim;
    telemetry.box.checked = state.telemetry;
    spent.show(state.budget);
    showHosts(state.hosts);
  };
});
