/**
 * What a person does in the list, by pointer and by keyboard: open, name, fold, move, delete, and the menus that lead there. Tab reaches
 * one row and its menu; arrows, Home and End move over all of them, also over those that are not in the document now.
 */

import { closedSections, fold, folderNames, forget, remember, tidy } from './folders.js';
import { isNewer } from './groups.js';
import { openMenu } from './menu.js';
import { renameIn, titleOf } from './rows.js';
import { catalogue } from '../strings.js';

/** @import {Deeds} from './deeds.js' */
/** @import {Format} from './export.js' */
/** @import {LongList} from './list.js' */
/** @import {MenuItem} from './menu.js' */
/** @import {Row} from '../shelf/change.js' */

const words = catalogue.history;
const EXPORTS = /** @type {const} */ (['json', 'markdown', 'branches']);
const FIRST = '.chat-open, .fold';

/**
 * @typedef {object} Host
 * @property {HTMLElement} scroller
 * @property {LongList} list
 * @property {Map<string, Row>} rows
 * @property {Deeds} deeds
 * @property {() => void} draw the list anew, at once
 * @property {() => void} toSearch the focus goes to the search
 * @property {() => void} clearSearch
 * @property {(id: string, node?: string) => void} show
 * @property {(id: string, format: Format) => void} export
 * @property {(id: string) => () => void} removing what is done when its deletion is undone
 * @property {(text: string) => void} warn
 */

export class Hands {
  #host;
  /** @type {string|null} the key of the row that Tab reaches */ #active = null;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    const { scroller } = host;
    scroller.addEventListener('click', (event) => this.#clicked(event));
    scroller.addEventListener('keydown', (event) => this.#key(event));
    scroller.addEventListener('contextmenu', (event) => this.#context(event));
    scroller.addEventListener('focusin', ({ target }) => {
      const first = target instanceof HTMLElement ? target.closest('.item')?.querySelector(FIRST) : null;
      if (first instanceof HTMLElement) this.#active = keyOf(first);
      this.reach();
    });
  }

  /** Tab reaches one row, the arrows the others. */
  reach() {
    const all = this.#buttons();
    const wanted = all.find((one) => keyOf(one) === this.#active) ?? all.find((one) => one.getAttribute('aria-current')) ?? all[0];
    for (const button of this.#host.scroller.querySelectorAll('button')) button.tabIndex = -1;
    if (!wanted) return;
    wanted.tabIndex = 0;
    const more = wanted.closest('.item')?.querySelector('.chat-more');
    if (more instanceof HTMLElement) more.tabIndex = 0;
  }

  /** The first row gets the focus. */
  enter() {
    focus(this.#buttons()[0]);
  }

  /** Opens the first row, or hit. */
  take() {
    (this.#buttons().find((one) => one.matches('.line')) ?? this.#buttons()[0])?.click();
  }

  #buttons() {
    return /** @type {HTMLElement[]} */ ([...this.#host.scroller.querySelectorAll(`${FIRST}, .line`)].filter((one) => !one.closest('[hidden]')));
  }

  /** @param {MouseEvent} event */
  #clicked({ target }) {
    const button = target instanceof Element ? target.closest('button') : null;
    if (!button) return;
    const { id, node, folder } = button.dataset;
    if (button.classList.contains('chat-more')) this.#menu(button);
    else if (id) this.#host.show(id, node);
    else if (folder !== undefined) {
      fold(`folder ${folder}`, button.getAttribute('aria-expanded') === 'true');
      this.#host.draw();
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const here = event.target instanceof HTMLElement ? from(event.target) : null;
    if (!here) return;
    const row = this.#host.rows.get(here.dataset.id ?? '');
    const folder = here.dataset.folder;
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) this.#go(here, step);
    else if (event.key === 'F2') row ? this.#rename(row.id) : folder !== undefined && this.#renameFolder(folder);
    else if (event.key === 'Delete') row ? this.#remove(row) : folder !== undefined && this.#removeFolder(folder);
    else if (event.key === 'ContextMenu' || (event.key === 'F10' && event.shiftKey)) this.#menu(here.closest('.item')?.querySelector('.chat-more') ?? null);
    else return;
    event.preventDefault();
  }

  /** @param {HTMLElement} here @param {number} step */
  #go(here, step) {
    const key = keyOf(here);
    const all = key === null ? this.#buttons() : this.#host.list.keys.filter((one) => !one.startsWith('# ') || one.startsWith('# folder '));
    const at = all.indexOf(/** @type {any} */ (key ?? here));
    if (step === -1 && at === 0) return this.#host.toSearch();
    const next = all[Math.max(0, Math.min(at + step, all.length - 1))];
    focus(typeof next === 'string' ? this.#host.list.reveal(next)?.querySelector(FIRST) : next);
  }

  // -- menus

  /** @param {MouseEvent} event */
  #context(event) {
    const more = event.target instanceof Element ? event.target.closest('.item')?.querySelector('.chat-more') : null;
    if (!more) return;
    event.preventDefault();
    this.#menu(more, event.clientX || event.clientY ? { x: event.clientX, y: event.clientY } : undefined);
  }

  /** @param {Element|null} button @param {{x: number, y: number}} [point] */
  #menu(button, point) {
    const first = button?.closest('.item')?.querySelector(FIRST);
    if (!(button instanceof HTMLElement) || !(first instanceof HTMLElement)) return;
    const { id = '', folder } = first.dataset;
    const row = this.#host.rows.get(id);
    if (row) openMenu(button, words.moreOf(titleOf(row)), this.#rowItems(row), point);
    else if (folder !== undefined) openMenu(button, words.moreOf(folder), this.#folderItems(folder), point);
  }

  /** @param {Row} row @returns {MenuItem[]} */
  #rowItems(row) {
    const { deeds } = this.#host;
    if (isNewer(row)) return [{ label: words.newer, icon: 'alert' }];
    const { id, folder, pinned } = row;
    const folders = this.#folders().map((name) => ({ label: name, checked: name === folder, run: () => void deeds.move(id, name) }));
    const places = [
      { label: words.noFolder, checked: (folder ?? null) === null, run: () => void deeds.move(id, null) },
      ...folders,
      { label: words.newFolder, icon: 'plus', line: true, testid: 'new-folder-item', run: () => this.newFolder(id) },
    ];
    return [
      { label: words.rename, icon: 'pencil', key: 'F2', testid: 'rename-item', run: () => this.#rename(id) },
      { label: pinned ? words.unpin : words.pin, icon: 'pin', testid: 'pin-item', run: () => void deeds.pin(id, !pinned) },
      { label: words.move, icon: 'folder', testid: 'move-item', items: places },
      { label: words.export, icon: 'out', testid: 'export-item', items: exportItems((format) => this.#host.export(id, format)) },
      { label: words.delete, icon: 'trash', key: words.deleteKey, danger: true, line: true, testid: 'delete-item', run: () => this.#remove(row) },
    ];
  }

  /** @param {string} folder @returns {MenuItem[]} */
  #folderItems(folder) {
    return [
      { label: words.rename, icon: 'pencil', key: 'F2', testid: 'rename-item', run: () => this.#renameFolder(folder) },
      { label: words.deleteFolder, icon: 'trash', key: words.deleteKey, danger: true, testid: 'delete-item', run: () => this.#removeFolder(folder) },
    ];
  }

  // -- deeds

  /** @param {Row} row */
  #remove(row) {
    if (isNewer(row)) return this.#host.warn(words.newer);
    const all = this.#buttons();
    const at = all.findIndex((one) => one.dataset.id === row.id);
    if (this.#host.scroller.contains(document.activeElement)) focus(all[at + 1] ?? all[at - 1]); // what is focused stays in the list
    void this.#host.deeds.remove(row, this.#host.removing(row.id));
  }

  /** @param {string} id */
  #rename(id) {
    const { list, rows, deeds } = this.#host;
    const row = rows.get(id);
    const button = list.reveal(id)?.querySelector('.chat-open');
    if (!row || isNewer(row) || !(button instanceof HTMLElement)) return;
    list.held = id;
    renameIn(button, titleOf(row), words.rename, (name) => {
      list.held = null;
      if (name) void deeds.rename(id, name);
      button.focus();
    });
  }

  /** A folder gets its name at once; a conversation may be put into it. @param {string} [id] */
  newFolder(id) {
    const taken = new Set(this.#folders());
    let name = words.folder;
    for (let n = 2; taken.has(name); n += 1) name = `${words.folder} ${n}`;
    remember(name);
    if (closedSections().has(`folder ${name}`)) fold(`folder ${name}`, false);
    if (id) void this.#host.deeds.move(id, name);
    this.#host.clearSearch();
    this.#renameFolder(name);
  }

  /** @param {string} folder */
  #renameFolder(folder) {
    const { list, draw } = this.#host;
    const key = `# folder ${folder}`;
    const button = list.reveal(key)?.querySelector('.fold');
    if (!(button instanceof HTMLElement)) return;
    list.held = key;
    renameIn(button, folder, words.rename, (typed) => {
      list.held = null;
      const name = tidy(typed ?? '');
      if (name && name !== folder) this.#moveAll(folder, name);
      draw();
      focus(list.at(`# folder ${name || folder}`)?.querySelector('.fold'));
    });
  }

  /** @param {string} folder its conversations stay, without it */
  #removeFolder(folder) {
    this.#moveAll(folder, null);
    this.#host.draw();
    this.enter();
  }

  /** @param {string} before @param {string|null} after */
  #moveAll(before, after) {
    const { rows, deeds } = this.#host;
    const closed = closedSections().has(`folder ${before}`);
    forget(before);
    if (closed) fold(`folder ${before}`, false);
    if (after !== null) remember(after);
    if (after !== null && closed) fold(`folder ${after}`, true);
    for (const row of [...rows.values()].filter(({ folder }) => folder === before)) {
      if (isNewer(row)) continue;
      rows.set(row.id, { ...row, folder: after }); // all at once in the list; the shelf follows
      void deeds.move(row.id, after);
    }
  }

  /** @returns {string[]} the names of all folders */
  #folders() {
    const named = [...this.#host.rows.values()].filter(({ deletedAt }) => !deletedAt).map(({ folder }) => folder);
    return [...new Set([...folderNames(), ...named])].filter((name) => typeof name === 'string').sort((a, b) => a.localeCompare(b));
  }
}

/** @param {(format: Format) => void} work @returns {MenuItem[]} */
export const exportItems = (work) => EXPORTS.map((format) => ({ label: words.exports[format], testid: `export-${format}`, run: () => work(format) }));

/** @param {HTMLElement} target @returns {HTMLElement|null} what arrows move from */
const from = (target) => (target.matches(`${FIRST}, .line`) ? target : (target.closest('.item')?.querySelector(FIRST) ?? null));

/** @param {Element|null|undefined} button */
function focus(button) {
  if (button instanceof HTMLElement) button.focus();
}

/** @param {HTMLElement} button @returns {string|null} */
const keyOf = (button) => button.closest('[data-key]')?.getAttribute('data-key') ?? null;
