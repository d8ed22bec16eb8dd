/**
 * The command palette: everything that the page can do, by a few letters of its name. A combobox with a list, as the ARIA practices
 * describe it: the focus stays in the field, the arrows move the choice, Enter does it.
 */

import { commands as own } from './commands.js';
import { element } from './dom.js';
import { printed } from './keys.js';
import { Overlay } from './overlay.js';
import { catalogue } from './strings.js';

/** @import {Command, Commands} from './commands.js' */

const words = catalogue.palette;

/**
 * More that can be found by what is typed, such as conversations: `(query) => commands`, the best first.
 * @type {((query: string) => Command[])[]}
 */
export const sources = [];

export class Palette {
  #commands;
  #overlay = new Overlay('palette', words.title);
  #input = element('input', 'palette-input');
  #list = element('ul', 'palette-list');
  #none = element('p', 'palette-none', words.none);
  /** @type {Command[]} */ #found = [];
  #at = 0;

  /** @param {Commands} [commands] */
  constructor(commands = own) {
    this.#commands = commands;
    const { dialog } = this.#overlay;
    Object.assign(this.#input, { type: 'text', placeholder: words.placeholder, autocomplete: 'off', spellcheck: false });
    for (const [name, value] of Object.entries({ role: 'combobox', 'aria-label': words.title, 'aria-controls': 'palette-list', 'aria-expanded': 'true', 'aria-autocomplete': 'list' })) {
      this.#input.setAttribute(name, value);
    }
    this.#list.id = 'palette-list';
    this.#list.role = 'listbox';
    this.#list.ariaLabel = words.title;
    this.#none.setAttribute('role', 'status');
    dialog.append(this.#input, this.#list, this.#none);
    this.#input.addEventListener('input', () => this.#search());
    this.#input.addEventListener('keydown', (event) => this.#key(event));
    this.#list.addEventListener('click', ({ target }) => {
      const option = target instanceof Element ? target.closest('li') : null;
      if (option) this.#run(Number(option.dataset.at));
    });
  }

  open() {
    this.#input.value = '';
    this.#overlay.open();
    this.#search();
    this.#input.focus();
  }

  #search() {
    const query = this.#input.value.trim();
    this.#found = [...this.#commands.find(query).filter(({ id }) => id !== 'palette'), ...(query ? sources.flatMap((source) => source(query)) : [])];
    this.#list.replaceChildren(...this.#found.map(option));
    this.#none.hidden = this.#found.length > 0;
    this.#choose(0);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#found.length - 1;
    const to = { ArrowDown: this.#at === last ? 0 : this.#at + 1, ArrowUp: this.#at === 0 ? last : this.#at - 1, PageDown: Math.min(last, this.#at + 8), PageUp: Math.max(0, this.#at - 8) }[event.key];
    if (to !== undefined) this.#choose(to);
    else if (event.key === 'Enter' && !event.isComposing) this.#run(this.#at);
    else return;
    event.preventDefault();
  }

  /** @param {number} at */
  #choose(at) {
    this.#at = at;
    [...this.#list.children].forEach((node, index) => node.setAttribute('aria-selected', String(index === at)));
    const chosen = this.#list.children[at];
    if (chosen) this.#input.setAttribute('aria-activedescendant', chosen.id);
    else this.#input.removeAttribute('aria-activedescendant');
    chosen?.scrollIntoView({ block: 'nearest' });
  }

  /** @param {number} at */
  #run(at) {
    const command = this.#found[at];
    if (!command) return;
    this.#overlay.close(); // first: what runs may open a dialog or move the focus
    command.run('');
  }
}

/** @param {Command} command @param {number} at */
function option({ title, shortcut }, at) {
  const row = element('li', 'palette-option');
  row.id = `palette-${at}`;
  row.role = 'option';
  row.dataset.at = String(at);
  row.append(element('span', '', title()));
  if (shortcut) row.append(keys(shortcut));
  return row;
}

/** @param {string} shortcut @returns {HTMLElement} the keys, each in a cap */
export function keys(shortcut) {
  const all = element('span', 'keys');
  all.append(...printed(shortcut).map((name) => element('kbd', '', name)));
  return all;
}
