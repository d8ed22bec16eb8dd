/**
 * The history: the list of conversations beside the chat, searched, named, pinned, put into folders, deleted and brought back, moved in
 * and out as files, and synced if a person wants that. It reads the shelf itself, so it is there before Python and without a network;
 * what is to be shown it asks of Python (`open-conversation`), and it follows what Python shows (`follow`).
 */

import { commands, fold } from './commands.js';
import { element } from './dom.js';
import { Deeds, UNDO_MS } from './history/deeds.js';
import { exportAll, exportOne } from './history/export.js';
import { closedSections, folderNames } from './history/folders.js';
import { Frame } from './history/frame.js';
import { isNewer, sections } from './history/groups.js';
import { Hands, exportItems } from './history/hands.js';
import { Import } from './history/import.js';
import { LongList } from './history/list.js';
import { openMenu } from './history/menu.js';
import { Results } from './history/results.js';
import { conversation, heading, titleOf } from './history/rows.js';
import { SyncSheet, saying } from './history/syncsheet.js';
import { sources } from './palette.js';
import { Search } from './search.js';
import { catalogue } from './strings.js';
import { Sync } from './sync/sync.js';

/** @import {Command} from './commands.js' */
/** @import {MenuItem} from './history/menu.js' */
/** @import {Item} from './history/list.js' */
/** @import {Row} from './shelf/change.js' */
/** @import {Changed, Shelf} from './shelf.js' */
/** @import {Toasts} from './toast.js' */
/** @import {UiMessage, ViewOp} from './protocol.js' */

const words = catalogue.history;
/** Chats that the palette offers beside its commands. */
const TITLED = 6;

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
  #hands;
  /** @type {Map<string, Row>} */ #rows = new Map();
  /** @type {string|null} */ #open = null;
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
    this.#hands = new Hands(this.#host());
    this.#listen(find('history-more'));
    parts.shelf.onChange((change) => this.#changed(change));
    addEventListener('storage', (event) => /** @type {StorageEvent} */ (event).key === 'hybr:history' && this.#soon());
    this.#temporary.title = this.#temporary.ariaLabel ?? '';
    registerCommands(this);
    sources.push((query) => this.titled(query));
    void this.#load();
  }

  /** The orchestrator answers: what may leave the browser is known now. */
  ready() {
    this.#ready = true;
    void this.#search.build();
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

  /** Chats by words of their titles, the newest first, for the palette. @param {string} query @returns {Command[]} */
  titled(query) {
    const wanted = fold(query).split(/\s+/).filter(Boolean);
    return [...this.#rows.values()]
      .filter((row) => !row.deletedAt && !isNewer(row) && wanted.every((word) => fold(titleOf(row)).includes(word)))
      .sort((a, b) => Number(b.updatedAt) - Number(a.updatedAt))
      .slice(0, TITLED)
      .map((row) => ({ id: `chat.${row.id}`, title: () => words.openNamed(titleOf(row)), run: () => this.#parts.post({ kind: 'ui', event: 'open-conversation', id: row.id }) }));
  }

  /** Opens or folds the column, for a shortcut. */
  toggle() {
    this.#frame.set(!this.#frame.open);
  }

  /** Asks for files. */
  import() {
    const input = element('input');
    Object.assign(input, { type: 'file', multiple: true, accept: '.json,.zip,.md,.markdown,.txt,application/json,application/zip,text/markdown' });
    input.addEventListener('change', () => input.files?.length && void this.#import.take([...input.files]));
    input.click();
  }

  /** Everything, as one file. */
  export() {
    void this.#exported(exportAll(this.#parts.shelf, 'json'));
  }

  /** Shows how the sync stands. */
  sync() {
    this.#sheet.open();
  }

  async #load() {
    try {
      const rows = await this.#parts.shelf.list();
      for (const row of rows) if (!this.#rows.has(row.id)) this.#rows.set(row.id, row); // what has changed meanwhile is newer
      this.#draw();
      await this.#deeds.sweep(rows);
      setTimeout(() => void this.#deeds.sweep([...this.#rows.values()]), UNDO_MS + 1000);
    } catch (error) {
      this.#deeds.fail(error);
    }
  }

  /** @param {Changed} change */
  #changed({ conversation: id, kind, row }) {
    if (kind === 'removed') this.#rows.delete(id);
    else if (row) this.#rows.set(id, row);
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
    this.#hands.reach();
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

  // -- what a person does

  /** @param {HTMLElement} more */
  #listen(more) {
    this.#input.addEventListener('focus', () => void this.#search.build(true));
    this.#input.addEventListener('input', () => (void this.#search.build(true), this.#soon()));
    this.#input.addEventListener('keydown', (event) => this.#inSearch(event));
    this.#temporary.addEventListener('click', () => {
      this.#parts.post({ kind: 'ui', event: 'new-conversation', temporary: true });
      this.#frame.leave();
    });
    this.#parts.fresh.addEventListener('click', () => this.#frame.leave());
    more.addEventListener('click', () => openMenu(more, words.more, this.#moreItems()));
    this.#takesFiles(this.#parts.root);
  }

  /** @param {HTMLElement} root where files may be dropped */
  #takesFiles(root) {
    root.addEventListener('dragover', (event) => event.dataTransfer?.types.includes('Files') && (event.preventDefault(), (root.dataset.drop = '')));
    root.addEventListener('dragleave', () => delete root.dataset.drop);
    root.addEventListener('drop', (event) => {
      delete root.dataset.drop;
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      void this.#import.take([...event.dataTransfer.files]);
    });
  }

  /** @returns {import('./history/hands.js').Host} */
  #host() {
    return {
      scroller: this.#scroller,
      list: this.#list,
      rows: this.#rows,
      deeds: this.#deeds,
      draw: () => this.#draw(),
      toSearch: () => this.#input.focus(),
      clearSearch: () => ((this.#input.value = ''), this.#draw()),
      show: (id, node) => this.#show(id, node),
      export: (id, format) => void this.#exported(exportOne(this.#parts.shelf, id, format)),
      removing: (id) => {
        const open = id === this.#open;
        if (open) this.#parts.post({ kind: 'ui', event: 'new-conversation' }); // an answer under way ends; what others delete Python hears
        return () => open && this.#parts.post({ kind: 'ui', event: 'open-conversation', id });
      },
      warn: (text) => this.#parts.toasts.show('warning', text),
    };
  }

  /** @param {KeyboardEvent} event */
  #inSearch(event) {
    if (event.key === 'Escape' && this.#input.value) {
      this.#input.value = '';
      this.#soon();
    } else if (event.key === 'ArrowDown') this.#hands.enter();
    else if (event.key === 'Enter') this.#hands.take();
    else return;
    event.preventDefault();
  }

  /** @param {string} id @param {string} [node] the message to go to */
  #show(id, node) {
    const row = this.#rows.get(id);
    if (!row) return;
    if (isNewer(row)) return this.#parts.toasts.show('warning', words.newer);
    this.#parts.post({ kind: 'ui', event: 'open-conversation', id, ...(node ? { node, find: this.#query } : {}) });
    this.#frame.leave();
  }

  /** @param {Promise<number|void>} work */
  async #exported(work) {
    const left = await work.catch((error) => this.#deeds.fail(error));
    if (left) this.#parts.toasts.show('warning', words.notExported(left));
  }

  /** @returns {MenuItem[]} */
  #moreItems() {
    const deleted = [...this.#rows.values()].filter((row) => row.deletedAt && !isNewer(row));
    const restore = { label: words.restore(deleted.length), icon: 'again', line: true, testid: 'restore-item', run: () => void this.#deeds.restore(deleted) };
    return [
      { label: words.newFolder, icon: 'folder', testid: 'new-folder-item', run: () => this.#hands.newFolder() },
      { label: words.import, icon: 'in', testid: 'import-item', run: () => this.import() },
      { label: words.exportAll, icon: 'out', testid: 'export-item', items: exportItems((format) => void this.#exported(exportAll(this.#parts.shelf, format))) },
      { label: words.sync, icon: 'sync', line: true, testid: 'sync-item', run: () => this.sync() },
      ...(deleted.length ? [restore] : []),
    ];
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
