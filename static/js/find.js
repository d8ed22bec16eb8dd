/**
 * Finding words in the open conversation. The browser's own search sees only what is in the page, so where messages are not, Ctrl+F
 * (or Cmd+F) opens this bar instead; pressed again in it, it is the browser's.
 */

import { commands, fold } from './commands.js';
import { element, icon } from './dom.js';
import { unmark } from './found.js';
import { catalogue } from './strings.js';

/** @import {MessageView} from './view.js' */

const words = catalogue.view;

export class FindBar {
  #view;
  #bar;
  #input = element('input');
  #count = element('output');
  /** @type {string[]} ids of the messages that have the words */
  #hits = [];
  #at = -1;
  #place = 0;
  #places = 0;
  /** @type {HTMLElement|null} */
  #before = null;

  /**
   * @param {MessageView} view
   * @param {HTMLElement} bar
   */
  constructor(view, bar) {
    this.#view = view;
    this.#bar = bar;
    Object.assign(this.#input, { type: 'search', ariaLabel: words.find, placeholder: words.find, autocomplete: 'off' });
    this.#input.dataset.testid = 'find';
    const steps = [button('up', words.findBefore, () => this.#step(-1)), button('down', words.findNext, () => this.#step(1))];
    bar.role = 'search';
    bar.append(this.#input, this.#count, ...steps, button('close', words.findClose, () => this.close()));
    this.#input.addEventListener('input', () => this.#search());
    bar.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener('keydown', (event) => this.#called(event));
    commands.register({ id: 'chat.find', title: () => words.find, keywords: ['search'], available: () => !view.empty, run: () => this.open() });
  }

  open() {
    if (this.#bar.hidden) this.#before = /** @type {HTMLElement|null} */ (document.activeElement);
    this.#bar.hidden = false;
    this.#input.select();
    this.#input.focus();
    this.#search();
  }

  close() {
    this.#bar.hidden = true;
    unmark();
    (this.#before?.isConnected ? this.#before : document.querySelector('textarea'))?.focus();
  }

  /** @param {KeyboardEvent} event */
  #called(event) {
    if (event.key.toLowerCase() !== 'f' || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    if (!this.#view.partial || document.querySelector('dialog[open]')) return;
    if (event.target === this.#input) return this.close(); // and the browser opens its own
    event.preventDefault();
    this.open();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === 'Escape') this.close();
    else if (event.key === 'Enter' && event.target === this.#input) this.#step(event.shiftKey ? -1 : 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #search() {
    const wanted = fold(this.#input.value.trim());
    this.#hits = wanted ? this.#view.messages.filter(({ text }) => plain(text).includes(wanted)).map(({ id }) => id) : [];
    [this.#at, this.#place, this.#places] = [this.#hits.length, 0, 0];
    if (this.#hits.length) this.#step(-1); // what was written last is most often what is looked for
    else unmark();
    this.#say();
  }

  /** @param {-1|1} by */
  #step(by) {
    if (!this.#hits.length) return;
    const next = this.#place + by;
    if (next >= 0 && next < this.#places) this.#place = next;
    else {
      this.#at = (this.#at + by + this.#hits.length) % this.#hits.length;
      this.#place = by > 0 ? 0 : -1;
    }
    this.#places = this.#view.reveal(this.#hits[this.#at] ?? '', this.#input.value, this.#place);
    if (this.#place < 0) this.#place = Math.max(this.#places - 1, 0);
    this.#say();
  }

  #say() {
    const all = this.#hits.length;
    this.#count.textContent = all ? words.findAt(this.#at + 1, all) : this.#input.value.trim() ? words.findNone : '';
  }
}

/** @param {string} text a message's source, nearly as it is read */
const plain = (text) => fold(text.replace(/[*_`~#>|]/g, ''));

/** @param {string} name @param {string} label @param {() => void} run */
function button(name, label, run) {
  const made = element('button', 'tool');
  made.type = 'button';
  made.ariaLabel = label;
  made.title = label;
  made.append(icon(name));
  made.addEventListener('click', run);
  return made;
}
