/** Keys of providers: given, tried and removed here, shown nowhere. The server says whether there is one, and whose. */

import { complaint, field, h, say } from './dom.js';
import { catalogue } from './words.js';

/** @import {Ask} from './dom.js' */
/** @typedef {{provider: string, set: boolean, source: string, suspect: boolean, available: boolean, reason: string}} Key see settings.account */

const words = catalogue.settings;

/**
 * @param {Ask} ask @param {() => unknown} changed
 * @returns {{node: HTMLElement, show: (keys: Key[]) => void}}
 */
export function keys(ask, changed) {
  const list = h('div', { class: 'entries', 'data-testid': 'keys' });
  const node = h('div', {}, h('h3', { text: words.keys }), h('p', { class: 'line', text: words.keysHint }), list);

  /** @param {Key} key */
  function entry({ provider, set: there, source }) {
    const input = h('input', { type: 'password', name: 'key', autocomplete: 'off', spellcheck: 'false' });
    const told = h('p', { class: 'line', role: 'status' });
    const remove = h('button', { type: 'button', class: 'quiet', text: words.keyRemove, onclick: () => void drop() });
    remove.hidden = source !== 'person';
    const save = h('button', { type: 'submit', text: words.keySave });
    const form = h('form', { class: 'form', novalidate: true, onsubmit: (event) => (event.preventDefault(), void put()) },
      field(words.keyOf(provider), input), h('div', { class: 'row' }, save, remove));
    async function put() {
      save.disabled = true;
      complaint({ key: input }, null);
      say(told, words.keyTrying);
      try {
        const { checked } = await ask({ action: 'set-key', provider, key: input.value });
        input.value = '';
        say(told, checked === 'valid' ? words.keyValid : words.keyUnchecked);
        changed();
      } catch (error) {
        say(told, complaint({ key: input }, error) ? '' : words.failed(/** @type {Error} */ (error).message));
      } finally {
        save.disabled = false;
      }
    }

    async function drop() {
      await ask({ action: 'drop-key', provider }).then(() => (say(told, words.keyRemoved), changed()), (error) => say(told, words.failed(error.message)));
    }

    const shown = h('span', { class: 'count' });
    const box = h('details', { class: 'entry', 'data-provider': provider, 'data-set': there ? 'yes' : 'no', 'data-source': source }, h('summary', {}, h('b', { text: provider }), shown), form, told);
    return { box, remove, shown };
  }

  /** @type {Map<string, ReturnType<typeof entry>>} */
  const made = new Map();
  return {
    node,
    show(found) {
      if (!found.length) list.replaceChildren(h('p', { class: 'line', text: words.noKeys }));
      for (const key of found) {
        const one = made.get(key.provider) ?? entry(key);
        if (!made.has(key.provider)) list.append(one.box);
        made.set(key.provider, one);
        one.box.dataset.set = key.set ? 'yes' : 'no';
        one.box.dataset.source = key.source;
        one.remove.hidden = key.source !== 'person';
        say(one.shown, [words.keySources[key.source] ?? key.source, key.suspect ? words.keySuspect : ''].filter(Boolean).join(', '));
      }
    },
  };
}
