/**
 * The history: the list of conversations beside the chat, searched, named, pinned, put into folders, deleted and brought back, moved in
 * and out as files, and synced if a person wants that. It reads the shelf itself, so it is there before Python and without a network;
 * what is to be shown it asks of Python (`open-conversation`), and it follows what Python shows (`follow`).
 */

import { commands } from './commands.js';
import { element } from './dom.js';
import { Deeds } from './history/deeds.js';
import { exportAll, exportOne } from './history/export.js';
import { closedSections, fold, folderNames, forget, remember, tidy } from './history/folders.js';
import { Frame } from './history/frame.js';
import { isNewer, sections } from './history/groups.js';
import { Import } from './history/import.js';
import { LongList } from './history/list.js';
import { openMenu } from './history/menu.js';
import { Results } from './history/results.js';
import { conversation, heading, renameIn, titleOf } from './history/rows.js';
import { SyncSheet, saying } from './history/syncsheet.js';
import { Search } from './search.js';
import { catalogue } from './strings.js';
import { Sync } from './sync/sync.js';

/** @import {MenuItem} from './history/menu.js' */
/** @import {Item} from './history/list.js' */
/** @import {Section} from './history/groups.js' */
/** @import {Row} from './shelf/change.js' */
/** @import {Changed, Shelf} from './shelf.js' */
/** @import {Toasts} from './toast.js' */
/** @import {UiMessage, ViewOp} from './protocol.js' */

const words = catalogue.history;
const EXPORTS = /** @type {const} */ (['json', 'markdown', 'branches']);

/**
 * @typedef {object} HistoryParts
 * @property {HTMLElement} root `#history`
 * @property {HTMLButtonElement} toggle
 * @property {HTMLElement} scrim
 * @property {HTMLElement} fresh the button for a new chat
 * @property {Shelf} shelf
 * @property {Toasts} toasts
 * @property {(message: UiMessage) => void} post
 * @property {URL} script of the import's worker
 * @property {() => Promise<boolean>} mayLeave whether anything may leave the browser now
 */

export class History {
  #parts;
  #frame;
  #list;
  #results;
  #deeds;
  #search;
  #import;
  #sheet;
  #sync;
  #scroller;
  #input;
  #temporary;
  /** @type {Map<string, Row>} */ #rows = new Map();
  /** @type {string|null} */ #open = null;
  /** @type {string|null} the key of the row that Tab reaches */ #active = null;
  #waiting = false;
  #ready = false;

  /** @param {HistoryParts} parts */
  constructor(parts) {
    this.#parts = parts;
    const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (parts.root.querySelector(`#${id}`));
    this.#scroller = find('history-scroll');
    this.#input = /** @type {HTMLInputElement} */ (find('search-history'));
    this.#temporary = find('temporary');
    this.#frame = new Frame({ ...parts, close: /** @type {HTMLButtonElement} */ (find('history-close')), head: find('history-head') });
    this.#list = new LongList(this.#scroller, words.list);
    this.#results = new Results(this.#scroller, parts.shelf);
    this.#deeds = new Deeds(parts.shelf, parts.toasts);
    this.#search = new Search(parts.shelf, () => this.#query && this.#soon());
    this.#import = new Import(parts.shelf, parts.script);
    this.#sync = new Sync(parts.shelf, parts.mayLeave, (status) => this.#synced(status));
    this.#sheet = new SyncSheet(this.#sync);
    this.#listen(find('history-more'));
    parts.shelf.onChange((change) => this.#changed(change));
    addEventListener('storage', (event) => /** @type {StorageEvent} */ (event).key === 'hybr:history' && this.#soon());
    this.#temporary.title = this.#temporary.ariaLabel ?? '';
    registerCommands(this);
    void this.#load();
  }

  /** The orchestrator answers: what may leave the browser is known now. */
  ready() {
    this.#ready = true;
    void this.#sync.start();
  }

  /** The mode has changed: the sync ends at once, or may go on. @param {boolean} closed whether nothing may leave now */
  closed(closed) {
    if (closed) this.#sync.stop();
    else if (this.#ready) this.#sync.wake();
  }

  /** @param {ViewOp} op what Python shows */
  follow(op) {
    if (op.type === 'open' || op.type === 'conversation') {
      this.#open = op.conversation.temporary ? null : op.conversation.id;
      this.#temporary.setAttribute('aria-pressed', String(op.conversation.temporary === true));
    } else if (op.type === 'clear') {
      this.#open = null;
      this.#temporary.setAttribute('aria-pressed', 'false');
    } else return;
    this.#soon();
  }

  /** Goes to the search, for a shortcut. */
  search() {
    this.#frame.set(true);
    this.#input.focus();
    this.#input.select();
  }

  /** Opens or folds the column, for a shortcut. */
  toggle() {
    this.#frame.set(!this.#frame.open);
  }

  import() {
    this.#choose();
  }

  export() {
    void this.#exported(exportAll(this.#parts.shelf, 'json'));
  }

  sync() {
    this.#sheet.open();
  }

  async #load() {
    try {
      const rows = await this.#parts.shelf.list();
      this.#rows = new Map([...rows.map((row) => /** @type {const} */ ([row.id, row])), ...this.#rows]);
      this.#draw();
      await this.#deeds.sweep(rows);
    } catch (error) {
      this.#deeds.fail(error);
    }
    this.#scroller.dataset.ready = '';
    void this.#search.build();
  }

  /** @param {Changed} change */
  #changed({ conversation: id, kind, row }) {
    if (kind === 'removed') this.#rows.delete(id);
    else if (row) this.#rows.set(id, row);
    const gone = kind === 'removed' || (row?.deletedAt ?? null) !== null;
    if (gone && id === this.#open) this.#parts.post({ kind: 'ui', event: 'new-conversation' });
    this.#soon();
  }

  // -- drawing

  get #query() {
    return this.#input.value.trim();
  }

  #soon() {
    if (this.#waiting) return;
    this.#waiting = true;
    setTimeout(() => ((this.#waiting = false), this.#draw()), 16);
  }

  #draw() {
    const query = this.#query;
    this.#list.hidden = query !== '';
    if (query) {
      const living = new Map([...this.#rows].filter(([, row]) => (row.deletedAt ?? null) === null));
      this.#results.show(this.#search.find(query), living, query, this.#search.complete);
    } else {
      this.#results.hide();
      const items = this.#items();
      this.#list.show(items);
      this.#empty(items.length === 0);
    }
    this.#reach();
  }

  /** @returns {Item[]} */
  #items() {
    const tall = matchMedia('(pointer: coarse)').matches ? 44 : 36;
    const found = sections([...this.#rows.values()], { folders: folderNames(), closed: closedSections(), now: Date.now(), language: document.documentElement.lang, words });
    return found.flatMap((section) => {
      const fixed = section.kind !== 'folder';
      const top = { key: `# ${section.key}`, sign: `${section.open} ${section.label} ${section.rows.length}`, height: tall, draw: () => heading(section, fixed) };
      const rows = section.open || fixed ? section.rows : [];
      return [top, ...rows.map((row) => this.#item(row, tall, !fixed))];
    });
  }

  /** @param {Row} row @param {number} height @param {boolean} inside a folder @returns {Item} */
  #item(row, height, inside) {
    const open = row.id === this.#open;
    return { key: row.id, sign: `${open} ${isNewer(row)} ${inside} ${titleOf(row)}`, height, draw: () => conversation(row, { open, inside }) };
  }

  /** @param {boolean} empty */
  #empty(empty) {
    const shown = this.#scroller.querySelector('.none');
    if (!empty) return shown?.remove();
    if (!shown) this.#scroller.append(element('p', 'none', words.none));
  }

  /** Tab reaches one row, the arrows the others. */
  #reach() {
    const all = this.#buttons();
    const wanted = all.find((one) => keyOf(one) === this.#active) ?? all.find((one) => one.getAttribute('aria-current')) ?? all[0];
    for (const button of this.#scroller.querySelectorAll('button')) button.tabIndex = -1;
    if (!wanted) return;
    wanted.tabIndex = 0;
    const more = wanted.closest('.item')?.querySelector('.chat-more');
    if (more instanceof HTMLElement) more.tabIndex = 0;
  }

  #buttons() {
    return /** @type {HTMLElement[]} */ ([...this.#scroller.querySelectorAll('.chat-open, .fold, .line')].filter((one) => !one.closest('[hidden]')));
  }

  // -- what a person does

  /** @param {HTMLElement} more */
  #listen(more) {
    const { root } = this.#parts;
    this.#input.addEventListener('input', () => (void this.#search.build(true), this.#soon()));
    this.#input.addEventListener('keydown', (event) => this.#inSearch(event));
    this.#temporary.addEventListener('click', () => {
      this.#parts.post({ kind: 'ui', event: 'new-conversation', temporary: true });
      this.#frame.leave();
    });
    this.#parts.fresh.addEventListener('click', () => this.#frame.leave());
    more.addEventListener('click', () => openMenu(more, words.more, this.#moreItems()));
    this.#scroller.addEventListener('click', (event) => this.#clicked(event));
    this.#scroller.addEventListener('keydown', (event) => this.#key(event));
    this.#scroller.addEventListener('contextmenu', (event) => this.#context(event));
    this.#scroller.addEventListener('focusin', ({ target }) => {
      const button = target instanceof HTMLElement ? target.closest('.item')?.querySelector('.chat-open, .fold') : null;
      if (button instanceof HTMLElement) this.#active = keyOf(button);
      this.#reach();
    });
    root.addEventListener('dragover', (event) => event.dataTransfer?.types.includes('Files') && (event.preventDefault(), (root.dataset.drop = '')));
    root.addEventListener('dragleave', () => delete root.dataset.drop);
    root.addEventListener('drop', (event) => {
      delete root.dataset.drop;
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      void this.#import.take([...event.dataTransfer.files]);
    });
  }

  /** @param {KeyboardEvent} event */
  #inSearch(event) {
    if (event.key === 'Escape' && this.#input.value) {
      event.preventDefault();
      this.#input.value = '';
      this.#soon();
    } else if (event.key === 'ArrowDown') {
      event.preventDefault();
      this.#buttons()[0]?.focus();
    } else if (event.key === 'Enter') this.#buttons()[0]?.click();
  }

  /** @param {MouseEvent} event */
  #clicked({ target }) {
    const button = target instanceof Element ? target.closest('button') : null;
    if (!button) return;
    const { id, node } = button.dataset;
    if (button.classList.contains('fold')) this.#fold(button);
    else if (button.classList.contains('chat-more')) this.#menu(button);
    else if (id) this.#show(id, node);
  }

  /** @param {string} id @param {string} [node] the message to go to */
  #show(id, node) {
    const row = this.#rows.get(id);
    if (!row) return;
    if (isNewer(row)) return this.#parts.toasts.show('warning', words.newer);
    this.#parts.post({ kind: 'ui', event: 'open-conversation', id, ...(node ? { node, find: this.#query } : {}) });
    this.#frame.leave();
  }

  /** @param {HTMLElement} button */
  #fold(button) {
    fold(`folder ${button.dataset.folder}`, button.getAttribute('aria-expanded') === 'true');
    this.#draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!(event.target instanceof HTMLElement)) return;
    const all = this.#buttons();
    const here = event.target.closest('.item, .hit')?.querySelector('.chat-open, .fold');
    const at = all.indexOf(event.target.matches('.line') ? event.target : /** @type {HTMLElement} */ (here));
    if (at < 0) return;
    const row = this.#rows.get(all[at]?.dataset.id ?? '');
    const folder = all[at]?.dataset.folder;
    if (event.key === 'ArrowDown') this.#to(all, at + 1);
    else if (event.key === 'ArrowUp') at ? this.#to(all, at - 1) : this.#input.focus();
    else if (event.key === 'Home') this.#to(all, 0);
    else if (event.key === 'End') this.#to(all, all.length - 1);
    else if (event.key === 'F2') row ? this.#rename(row.id) : folder !== undefined && this.#renameFolder(folder);
    else if (event.key === 'Delete') row ? this.#remove(row) : folder !== undefined && this.#removeFolder(folder);
    else if (event.key === 'ContextMenu' || (event.key === 'F10' && event.shiftKey)) this.#menu(/** @type {HTMLElement} */ (all[at]?.closest('.item')?.querySelector('.chat-more')));
    else return;
    event.preventDefault();
  }

  /** @param {HTMLElement[]} all @param {number} index */
  #to(all, index) {
    const target = all[Math.max(0, Math.min(index, all.length - 1))];
    target?.focus({ preventScroll: false });
  }

  /** @param {MouseEvent} event */
  #context(event) {
    const more = event.target instanceof Element ? event.target.closest('.item')?.querySelector('.chat-more') : null;
    if (!(more instanceof HTMLElement)) return;
    event.preventDefault();
    this.#menu(more, event.clientX || event.clientY ? { x: event.clientX, y: event.clientY } : undefined);
  }

  /** @param {HTMLElement|null} button @param {{x: number, y: number}} [point] */
  #menu(button, point) {
    const first = button?.closest('.item')?.querySelector('.chat-open, .fold');
    if (!button || !(first instanceof HTMLElement)) return;
    const row = this.#rows.get(first.dataset.id ?? '');
    if (row) openMenu(button, words.moreOf(titleOf(row)), this.#rowItems(row), point);
    else if (first.dataset.folder !== undefined) openMenu(button, words.moreOf(first.dataset.folder), this.#folderItems(first.dataset.folder), point);
  }

  /** @param {Row} row @returns {MenuItem[]} */
  #rowItems(row) {
    if (isNewer(row)) return [{ label: words.newer, icon: 'alert' }];
    const { id, folder, pinned } = row;
    const names = [...new Set([...folderNames(), ...[...this.#rows.values()].map((one) => one.folder)])].filter((name) => typeof name === 'string');
    const folders = names.sort((a, b) => a.localeCompare(b)).map((name) => ({ label: name, checked: name === folder, run: () => void this.#deeds.move(id, name) }));
    return [
      { label: words.rename, icon: 'pencil', key: 'F2', testid: 'rename-item', run: () => this.#rename(id) },
      { label: pinned ? words.unpin : words.pin, icon: 'pin', testid: 'pin-item', run: () => void this.#deeds.pin(id, !pinned) },
      {
        label: words.move,
        icon: 'folder',
        testid: 'move-item',
        items: [
          { label: words.noFolder, checked: (folder ?? null) === null, run: () => void this.#deeds.move(id, null) },
          ...folders,
          { label: words.newFolder, icon: 'plus', line: true, testid: 'new-folder-item', run: () => this.#newFolder(id) },
        ],
      },
      { label: words.export, icon: 'out', testid: 'export-item', items: this.#exports((format) => exportOne(this.#parts.shelf, id, format)) },
      { label: words.delete, icon: 'trash', key: words.deleteKey, danger: true, line: true, testid: 'delete-item', run: () => this.#remove(row) },
    ];
  }

  /** @param {(format: import('./history/export.js').Format) => Promise<void>} work @returns {MenuItem[]} */
  #exports(work) {
    return EXPORTS.map((format) => ({ label: words.exports[format], testid: `export-${format}`, run: () => void this.#exported(work(format)) }));
  }

  /** @param {Promise<void>} work */
  async #exported(work) {
    await work.catch((error) => this.#deeds.fail(error));
  }

  /** @param {string} folder @returns {MenuItem[]} */
  #folderItems(folder) {
    return [
      { label: words.rename, icon: 'pencil', key: 'F2', testid: 'rename-item', run: () => this.#renameFolder(folder) },
      { label: words.deleteFolder, icon: 'trash', key: words.deleteKey, danger: true, testid: 'delete-item', run: () => this.#removeFolder(folder) },
    ];
  }

  /** @returns {MenuItem[]} */
  #moreItems() {
    return [
      { label: words.newFolder, icon: 'folder', testid: 'new-folder-item', run: () => this.#newFolder() },
      { label: words.import, icon: 'in', testid: 'import-item', run: () => this.#choose() },
      { label: words.exportAll, icon: 'out', testid: 'export-item', items: this.#exports((format) => exportAll(this.#parts.shelf, format)) },
      { label: words.sync, icon: 'sync', line: true, testid: 'sync-item', run: () => this.#sheet.open() },
    ];
  }

  #choose() {
    const input = element('input');
    Object.assign(input, { type: 'file', multiple: true, accept: '.json,.zip,application/json,application/zip' });
    input.addEventListener('change', () => input.files?.length && void this.#import.take([...input.files]));
    input.click();
  }

  /** @param {Row} row */
  #remove(row) {
    if (isNewer(row)) return this.#parts.toasts.show('warning', words.newer);
    const all = this.#buttons();
    const at = all.findIndex((one) => one.dataset.id === row.id);
    const next = all[at + 1] ?? all[at - 1];
    const wasOpen = row.id === this.#open;
    if (next && this.#scroller.contains(document.activeElement)) {
      this.#active = keyOf(next);
      next.focus();
    }
    void this.#deeds.remove(row, () => wasOpen && this.#parts.post({ kind: 'ui', event: 'open-conversation', id: row.id }));
  }

  /** @param {string} id */
  #rename(id) {
    const row = this.#rows.get(id);
    const button = this.#list.reveal(id)?.querySelector('.chat-open');
    if (!row || isNewer(row) || !(button instanceof HTMLElement)) return;
    this.#list.held = id;
    renameIn(button, titleOf(row), words.rename, (name) => {
      this.#list.held = null;
      if (name) void this.#deeds.rename(id, name);
      button.focus();
    });
  }

  /** A folder gets its name at once; a conversation may be put into it. @param {string} [id] */
  #newFolder(id) {
    const taken = new Set([...folderNames(), ...[...this.#rows.values()].map((row) => row.folder)]);
    let name = words.folder;
    for (let n = 2; taken.has(name); n += 1) name = `${words.folder} ${n}`;
    remember(name);
    if (id) void this.#deeds.move(id, name);
    fold(`folder ${name}`, false);
    this.#input.value = '';
    this.#draw();
    this.#renameFolder(name);
  }

  /** @param {string} folder */
  #renameFolder(folder) {
    const key = `# folder ${folder}`;
    const button = this.#list.reveal(key)?.querySelector('.fold');
    if (!(button instanceof HTMLElement)) return;
    this.#list.held = key;
    renameIn(button, folder, words.rename, (typed) => {
      this.#list.held = null;
      const name = tidy(typed ?? '');
      if (name && name !== folder) this.#moveAll(folder, name);
      this.#draw();
      /** @type {HTMLElement|null|undefined} */ (this.#list.at(`# folder ${name || folder}`)?.querySelector('.fold'))?.focus();
    });
  }

  /** @param {string} folder its conversations stay, without it */
  #removeFolder(folder) {
    this.#moveAll(folder, null);
    this.#draw();
    this.#buttons()[0]?.focus();
  }

  /** @param {string} from @param {string|null} to */
  #moveAll(from, to) {
    forget(from);
    if (to !== null) remember(to);
    for (const row of this.#rows.values()) if (row.folder === from && !isNewer(row)) void this.#deeds.move(row.id, to);
  }

  /** @param {import('./sync/sync.js').Status} status */
  #synced(status) {
    const line = this.#parts.root.querySelector('#history-sync');
    if (line instanceof HTMLElement) {
      line.hidden = status.state === 'off';
      line.textContent = saying(status);
      line.dataset.state = status.state;
    }
    this.#sheet?.show(status);
  }
}

/** @param {HTMLElement} button @returns {string|null} */
const keyOf = (button) => button.closest('[data-key]')?.getAttribute('data-key') ?? null;

/** @param {History} history */
function registerCommands(history) {
  commands.register(
    { id: 'history.search', title: () => catalogue.page.searchHistory, slash: 'search', shortcut: 'Mod+Shift+F', run: () => history.search() },
    { id: 'history.toggle', title: () => catalogue.page.historyToggle, shortcut: 'Mod+Shift+S', keywords: ['history', 'sidebar'], run: () => history.toggle() },
    { id: 'history.import', title: () => words.import, keywords: ['chatgpt', 'open webui', 'file'], run: () => history.import() },
    { id: 'history.export', title: () => words.exportAll, keywords: ['backup', 'json', 'file'], run: () => history.export() },
    { id: 'history.sync', title: () => words.sync, keywords: ['devices', 'backup'], run: () => history.sync() },
  );
}
