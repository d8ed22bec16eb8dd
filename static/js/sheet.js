/** The sheet of keys: every shortcut of the page's commands, then the keys that work where one is. */

import { commands as own } from './commands.js';
import { element } from './dom.js';
import { Overlay } from './overlay.js';
import { keys } from './palette.js';
import { catalogue } from './strings.js';

/** @import {Commands} from './commands.js' */

const words = catalogue.palette;

/** Keys of one place, that no command stands for. */
const PLACES = /** @type {[keyof typeof words.places, [string, keyof typeof words.acts][]][]} */ ([
  ['composer', [['Enter', 'send'], ['Shift+Enter', 'newLine'], ['/', 'slash'], ['Escape', 'stop']]],
  ['history', [['ArrowDown', 'next'], ['Enter', 'open'], ['F2', 'rename'], ['Delete', 'remove']]],
]);

export class Sheet {
  #commands;
  #overlay = new Overlay('shortcuts', words.sheet);

  /** @param {Commands} [commands] */
  constructor(commands = own) {
    this.#commands = commands;
  }

  open() {
    const general = this.#commands.list().flatMap(({ shortcut, title }) => (shortcut ? [row(shortcut, title())] : []));
    const groups = [group(words.places.page, general), ...PLACES.map(([place, rows]) => group(words.places[place], rows.map(([key, act]) => row(key, words.acts[act]))))];
    this.#overlay.dialog.replaceChildren(this.#overlay.head(words.sheet), ...groups);
    this.#overlay.open();
  }
}

/** @param {string} title @param {HTMLElement[]} rows */
function group(title, rows) {
  const section = element('section', 'sheet-group');
  const list = element('dl');
  list.append(...rows);
  section.append(element('h3', '', title), list);
  return section;
}

/** @param {string} shortcut @param {string} text */
function row(shortcut, text) {
  const pair = element('div', 'sheet-row');
  const name = element('dt');
  name.append(keys(shortcut));
  pair.append(name, element('dd', '', text));
  return pair;
}
