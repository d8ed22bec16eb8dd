/**
 * `/` at the beginning of a message: commands and prompts to choose from, as a combobox whose field is the message box itself. The focus
 * stays there; arrows choose, Enter or Tab takes, Escape closes and leaves the text as it is. What matches nothing is an ordinary
 * message.
 */

import { element, icon } from './dom.js';
import { find as findPrompts } from './prompts.js';
import { catalogue } from './strings.js';

/** @import {Commands} from './commands.js' */

const MOST = 24;

/** @typedef {{title: string, detail: string, icon: string, take: (rest: string) => void}} Choice */

export class Slash {
  #input;
  #list;
  #commands;
  #insert;
  /** @type {Choice[]} */
  #choices = [];
  #at = 0;
  #closed = '';

  /**
   * @param {HTMLTextAreaElement} input
   * @param {HTMLElement} list
   * @param {Commands} commands
   * @param {(text: string) => void} insert a text in place of what is typed
   */
  constructor(input, list, commands, insert) {
    this.#input = input;
    this.#list = list;
    this.#commands = commands;
    this.#insert = insert;
    list.role = 'listbox';
    list.ariaLabel = catalogue.composer.commands;
    list.addEventListener('pointerdown', (event) => event.preventDefault()); // the field keeps the focus
    list.addEventListener('click', ({ target }) => {
      const option = target instanceof Element ? target.closest('li') : null;
      if (option) this.#take([...list.children].indexOf(option));
    });
    input.addEventListener('blur', () => this.#close());
  }

  get open() {
    return !this.#list.hidden;
  }

  /** The text has changed. */
  look() {
    const text = this.#input.value;
    const word = /^\/(\S*)(?:[ ]|$)/.exec(text);
    if (!word || text.includes('\n') || text === this.#closed) return this.#close();
    this.#closed = '';
    this.#choices = this.#find(word[1] ?? '', text.length > word[0].length);
    if (!this.#choices.length) return this.#close();
    this.#list.replaceChildren(...this.#choices.map(option));
    this.#list.hidden = false;
    Object.entries({ role: 'combobox', 'aria-expanded': 'true', 'aria-haspopup': 'listbox', 'aria-autocomplete': 'list', 'aria-controls': this.#list.id })
      .forEach(([name, value]) => this.#input.setAttribute(name, value));
    this.#choose(0);
  }

  /**
   * @param {KeyboardEvent} event
   * @returns {boolean} whether it was meant for the list
   */
  key(event) {
    if (!this.open) return false;
    const last = this.#choices.length - 1;
    const to = { ArrowDown: this.#at === last ? 0 : this.#at + 1, ArrowUp: this.#at === 0 ? last : this.#at - 1 }[event.key];
    if (to !== undefined) this.#choose(to);
    else if ((event.key === 'Enter' || event.key === 'Tab') && !event.shiftKey) this.#take(this.#at);
    else if (event.key === 'Escape') {
      this.#closed = this.#input.value;
      this.#close();
    } else return false;
    event.preventDefault();
    return true;
  }

  /** @param {string} query @param {boolean} exact something follows the word: only its own name counts then */
  #find(query, exact) {
    const typed = query.toLowerCase();
    /** @type {Choice[]} */
    const commands = this.#commands.find(query).filter(({ slash }) => (exact ? slash === typed : slash)).map((command) => ({
      title: `/${command.slash}`,
      detail: command.title(),
      icon: 'send',
      take: (rest) => (this.#insert(''), command.run(rest)),
    }));
    /** @type {Choice[]} */
    const prompts = (exact ? [] : findPrompts(query)).map(({ title, text }) => ({
      title, detail: text.replace(/\s+/g, ' ').slice(0, 80), icon: 'book', take: () => this.#insert(text),
    }));
    return [...commands, ...prompts].slice(0, MOST);
  }

  /** @param {number} at */
  #choose(at) {
    this.#at = at;
    [...this.#list.children].forEach((node, index) => node.setAttribute('aria-selected', String(index === at)));
    this.#input.setAttribute('aria-activedescendant', `slash-${at}`);
    this.#list.children[at]?.scrollIntoView({ block: 'nearest' });
  }

  /** @param {number} at */
  #take(at) {
    const choice = this.#choices[at];
    const rest = this.#input.value.replace(/^\/\S*\s*/, '');
    this.#close();
    choice?.take(rest);
  }

  #close() {
    this.#list.hidden = true;
    for (const name of ['role', 'aria-expanded', 'aria-haspopup', 'aria-autocomplete', 'aria-controls', 'aria-activedescendant']) {
      this.#input.removeAttribute(name);
    }
  }
}

/** @param {Choice} choice @param {number} at */
function option({ title, detail, icon: name }, at) {
  const row = element('li', 'slash-option');
  row.id = `slash-${at}`;
  row.role = 'option';
  row.append(icon(name), element('span', 'slash-name', title), element('span', 'slash-detail', detail));
  return row;
}
