/** Adding a model of another host by its address: what is given, the consent where its host was never asked, and what was found. */

import { complaint, field, h, say } from './dom.js';
import { catalogue } from './words.js';

/** @import {Ask} from './dom.js' */

const words = catalogue.models;

/**
 * @param {Ask} ask @param {(name: string, hosts: string[]) => Promise<boolean>} consent @param {(id: string) => void} added
 * @returns {HTMLElement}
 */
export function addition(ask, consent, added) {
  const inputs = {
    name: h('input', { name: 'name', required: true, autocomplete: 'off', spellcheck: 'false' }),
    address: h('input', { name: 'address', type: 'url', required: true, autocomplete: 'off', placeholder: 'https://' }),
    library: h('input', { name: 'library', type: 'url', autocomplete: 'off', placeholder: 'https://' }),
  };
  const line = h('p', { class: 'line', role: 'status', 'data-testid': 'add-result' });
  const button = h('button', { type: 'submit', text: words.add });
  const form = h('form', { class: 'form', novalidate: true, onsubmit: (event) => (event.preventDefault(), void submit()) },
    h('p', { class: 'line', text: words.addHint }),
    field(words.name, inputs.name), field(words.address, inputs.address), field(words.library, inputs.library, words.libraryHint), button, line);

  async function submit() {
    const given = Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, value.trim()]));
    button.disabled = true;
    complaint(inputs, null);
    say(line, words.adding);
    try {
      let found = await ask({ action: 'add-model', ...given });
      if (found.hosts) {
        if (!(await consent(given.name ?? '', found.hosts))) return say(line, '');
        await ask({ action: 'allow', hosts: found.hosts });
        found = await ask({ action: 'add-model', ...given });
      }
      form.reset();
      say(line, words.added(found.id));
      added(found.id);
    } catch (error) {
      say(line, complaint(inputs, error) ? '' : catalogue.settings.failed(/** @type {Error} */ (error).message));
    } finally {
      button.disabled = false;
    }
  }

  return h('details', { class: 'addition', 'data-testid': 'add-model' }, h('summary', { text: words.addTitle }), form);
}
