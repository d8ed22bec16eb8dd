/**
 * The models: of this page's server, of other hosts that the person added, of WebLLM's own list. One is chosen, and downloaded,
 * loaded, checked, deleted. A host that was never asked is asked after its consent only.
 */

import { addition } from './addition.js';
import { consent } from './consent.js';
import { component, h, keep, say, set } from './dom.js';
import { filters } from './filters.js';
import { make, update } from './option.js';
import { sieve } from './sieve.js';
import { storage } from './storage.js';
import { bytes, catalogue, words as views } from './words.js';

/** @import {Entry} from './sieve.js' */
/** @import {Option} from './option.js' */
/**
 * @typedef {object} State see models.models
 * @property {Entry[]} models @property {string|null} active @property {string} state @property {string|null} chosen
 * @property {string[]} hosts that are allowed @property {boolean} closed whether no other host can be asked from here
 * @property {{model: string, progress: number}|null} checking
 */

const words = catalogue.models;
const SOURCES = /** @type {('server'|'own'|'web')[]} */ (['server', 'own', 'web']);
/** Options shown at once: a list of hundreds is searched, not scrolled. */
const FIRST = 40;

export const render = component((root, send, _, ask) => {
  const button = (/** @type {string} */ testid, /** @type {string} */ kind, /** @type {string} */ text, /** @type {() => unknown} */ onclick) =>
    h('button', { type: 'button', class: kind, 'data-testid': testid, text, onclick });
  const tabs = SOURCES.map((name) =>
    h('label', { class: 'segment', 'data-testid': `models-${name}` }, h('input', { type: 'radio', name: 'source', value: name, onchange: () => turn(name) }), h('span', { text: words.sources[name] })));
  const source = h('div', { class: 'segments three', role: 'radiogroup', 'aria-label': words.sourcesLabel }, ...tabs);
  const means = h('p', { class: 'line' });
  const sought = filters(() => ((limit = FIRST), show(last)));
  const list = h('div', { class: 'options' });
  const tests = h('div', { class: 'options' });
  const forTests = h('div', { class: 'tests', role: 'group', 'aria-label': views.tests }, h('h3', { text: views.tests }), tests);
  const found = h('p', { class: 'line', role: 'status', 'data-testid': 'models-found' });
  const more = button('more-models', 'quiet', '', () => ((limit += FIRST), show(last)));
  const load = button('load-model', 'primary', '', () => void begin());
  const unload = button('unload-model', '', views.unload, () => send({ action: 'unload' }));
  const verify = button('verify-model', '', words.verify, () => void check());
  const remove = button('delete-model', 'danger', '', () => send({ action: 'delete', model: chosen }));
  const discard = button('discard-model', 'danger', words.discard, () => send({ action: 'delete', model: chosen }));
  const forget = button('forget-model', 'danger', words.forget, () => send({ action: 'remove-model', model: chosen }));
  const told = h('p', { class: 'line', role: 'status', 'data-testid': 'model-result' });
  const asked = consent(root);
  const add = addition(ask, asked, (id) => ((chosen = id), turn('own')));
  const room = storage(send);
  const picker = h('fieldset', { 'data-testid': 'model-picker' }, h('legend', { text: views.models }), source, means, sought.node, list, forTests, found, more);
  root.append(picker, h('div', { class: 'buttons' }, load, unload, verify, discard, remove, forget), told, add, room.node);
  /** @type {Map<string, Option>} */
  const options = new Map();
  /** @type {Map<string, Option>} */
  const testOptions = new Map();
  /** @type {Entry[]} WebLLM's list, empty until it is looked at */
  let offers = [];
  /** @type {'server'|'own'|'web'} */
  let at = 'server';
  /** @type {string|null} */
  let chosen = null;
  let limit = FIRST;
  let kept = '';
  /** @type {State} */
  let last = { models: [], active: null, state: '', chosen: null, hosts: [], closed: false, checking: null };

  /** @returns {Entry[]} of the source that is looked at, as things are now */
  function entries() {
    if (at === 'server') return last.models.filter((entry) => entry.source === 'server');
    if (at === 'own') return last.models.filter((entry) => entry.source !== 'server');
    const known = new Map(last.models.map((entry) => [entry.id, entry]));
    return offers.map((entry) => known.get(entry.id) ?? entry);
  }

  /** @param {'server'|'own'|'web'} name */
  function turn(name) {
    at = name;
    limit = FIRST;
    show(last);
    if (name === 'web') ask({ action: 'offers' }).then((given) => ((offers = given), show(last)), (error) => say(found, words.listFails(error.message)));
  }

  /** @param {string} id */
  function choose(id) {
    chosen = id;
    say(told, '');
    show(last);
  }

  const entry = () => [...last.models, ...offers].find(({ id }) => id === chosen);

  /** Download and load; a host that was never asked is asked about first. */
  async function begin() {
    const wanted = entry();
    if (!wanted) return;
    const hosts = wanted.cached ? [] : wanted.hosts.filter((host) => !last.hosts.includes(host));
    try {
      if (hosts.length && !(await asked(wanted.name, wanted.hosts))) return;
      if (hosts.length) await ask({ action: 'allow', hosts: wanted.hosts });
      say(told, '');
      send({ action: 'load', model: wanted.id });
    } catch (error) {
      say(told, words.allowFails(/** @type {Error} */ (error).message));
    }
  }

  async function check() {
    const id = chosen;
    try {
      const { files, damaged, repaired } = await ask({ action: 'verify', model: id });
      const bad = damaged.length;
      say(told, bad ? (repaired ? words.repaired : words.damaged)(bad, files) : words.sound(files));
      set(told, { 'data-damaged': bad });
    } catch (error) {
      say(told, words.verifyFails(/** @type {Error} */ (error).message));
    }
  }

  /** @param {Entry|undefined} one */
  function buttons(one) {
    const active = one !== undefined && one.id === last.active;
    const [loading, ready] = [active && last.state === 'loading', active && last.state === 'ready'];
    const size = bytes(one?.bytes ?? 0);
    const todo = one?.begun ? words.resume(bytes(one.begun.bytes - one.begun.have)) : one && !one.cached && one.bytes ? views.loadIt(size) : views.load;
    say(load, loading ? views.loading : ready ? views.loaded : todo);
    load.disabled = !(one?.fits && (one.state === 'built' || one.state === 'building')) || loading || ready;
    load.hidden = ready;
    unload.hidden = !ready;
    remove.hidden = verify.hidden = !one?.cached;
    discard.hidden = !one?.begun || loading;
    forget.hidden = one?.source !== 'own';
    say(remove, views.remove(size));
    say(verify, last.checking ? words.verifying(`${Math.floor(last.checking.progress * 100)}\u202f%`) : words.verify);
    remove.disabled = loading;
    verify.disabled = loading || last.checking !== null;
    for (const each of [load, remove, verify, discard, forget]) set(each, { 'data-model': one?.id });
  }

  /** @param {Entry[]} here @param {Entry[]} fitting */
  function counts(here, fitting) {
    const none = at === 'own' && !here.length ? words.noneYours : at === 'server' && !here.length ? views.noModels : words.nothing;
    if (at !== 'web' || here.length) say(found, fitting.length ? (here.length > 1 ? words.found(fitting.length, here.length) : '') : none);
    found.hidden = !found.textContent;
    more.hidden = fitting.length <= limit;
    say(more, words.more(Math.min(FIRST, fitting.length - limit)));
  }

  /** @param {State} state */
  function show(state) {
    last = state;
    const here = entries();
    if (!entry()) chosen = state.chosen;
    sought.show(here);
    const fitting = sieve(here, sought.wanted());
    const shown = fitting.slice(0, limit);
    const refresh = (/** @type {Option} */ option, /** @type {Entry} */ one) => update(option, one, one.id === chosen, state.state !== 'unsupported');
    const making = (/** @type {Entry} */ one) => make(one, choose);
    keep(options, list, shown.filter((one) => !one.testOnly), making, refresh);
    keep(testOptions, tests, shown.filter((one) => one.testOnly), making, refresh);
    forTests.hidden = tests.children.length === 0;
    say(means, state.closed && at !== 'server' ? words.closed : words.sourceMeans[at]);
    means.hidden = !means.textContent;
    add.hidden = at !== 'own' || state.closed;
    tabs.forEach((tab, index) => ((/** @type {HTMLInputElement} */ (tab.firstElementChild)).checked = SOURCES[index] === at));
    set(picker, { 'data-source': at });
    counts(here, fitting);
    buttons(fitting.find(({ id }) => id === chosen)); // what is done is done with what is seen
  }

  return (/** @type {State} */ state) => {
    // A load that began elsewhere (the address bar, an earlier visit) is what the person wants to see chosen.
    if (state.active && state.active !== last.active) {
      chosen = state.active;
      const of = state.models.find(({ id }) => id === chosen)?.source;
      if (of && !(at === 'web' && of === 'web')) at = of === 'server' ? 'server' : 'own';
    }
    show(state);
    const now = state.models.map(({ id, cached, begun }) => `${id} ${cached} ${begun?.have}`).join();
    if (now !== kept) void room.refresh();
    kept = now;
  };
});
