/**
 * The journal: what it takes to go on with an answer after a reload or a crash, in this browser's own database.
 *
 * A record is put down before an answer begins; then what is shown of it, in pieces of EVERY_MS each, so that writing costs the same
 * however long the text is; and all of it is dropped when the answer ends. What is not surely in the database yet, the `tail`, goes
 * to localStorage before it is drawn: that is written at once, so that not even a crash takes away what was shown. Each document holds a Web Lock for life, and a record
 * whose document is gone (its lock is free) was cut off: whoever takes that lock may offer to go on with it, and nobody else.
 * A browser that refuses the database costs this, not the page.
 */

/** @import {DeltaOp, JournalMessage, JournalRecord, Provider} from './protocol.js' */
import { opening } from './database.js';
import { drop, sweep } from './sessions.js';

const EVERY_MS = 100;
const RECORDS = 'records';
const PIECES = 'pieces';
const TAB = 'hybr:tab';
const TAIL = 'hybr-tail:';
/** How long a document that is just going away may take to let go of its lock. */
const LEAVING_MS = 3000;

/** @typedef {{id: string, tab: string, place: string, at: number, record: JournalRecord}} Row */
/** @typedef {{id: string, n: number, delta: string, provider: Provider|null, segment: number, restart: boolean}} Piece */

const lockOf = (/** @type {string} */ tab) => `hybr-tab-${tab}`;
const piecesOf = (/** @type {string} */ id) => IDBKeyRange.bound([id], [id, []]);

export class Journal {
  #place;
  #tab = crypto.randomUUID();
  #before = rename(this.#tab);
  /** @type {IDBDatabase|null} */ #database = null;
  /** @type {Promise<void>} */ #opened;
  /** @type {string|null} the answer under way */ #id = null;
  #n = 0;
  /** @type {Piece[]} not given to the database yet */ #waiting = [];
  /** @type {Piece[]} not surely in it yet: these and those that wait */ #tail = [];
  #marked = true;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #timer;

  /** @param {'local'|'main'} place */
  constructor(place) {
    this.#place = place;
    this.#opened = opening('hybr-journal', 1, make).then((database) => void (this.#database = database), (error) => console.warn('no journal:', error));
    void hold(lockOf(this.#tab));
    addEventListener('pagehide', () => this.#write());
    document.addEventListener('visibilitychange', () => document.hidden && this.#write());
  }

  /** @param {JournalMessage} message */
  receive(message) {
    if (message.op === 'begin') this.#begin(message.id, message.record);
    else this.#end(message.id);
  }

  /** @param {DeltaOp} op what was shown */
  delta({ id, delta, provider = null, segment = 0, restart = false }) {
    if (id !== this.#id) return;
    const last = this.#waiting.at(-1);
    if (last && !restart && last.segment === segment) last.delta += delta;
    else {
      const piece = { id, n: (this.#n += 1), delta, provider, segment, restart };
      this.#waiting.push(piece);
      this.#tail.push(piece);
    }
    this.#marked = false;
    this.#timer ??= setTimeout(() => this.#write(), EVERY_MS);
  }

  /** What came is about to be drawn. */
  mark() {
    if (this.#marked || this.#id === null) return;
    this.#marked = true;
    setTail(this.#id, this.#tail);
  }

  /**
   * @param {string|null} wanted the conversation that the person asked for, whose answers alone count then
   * @returns {Promise<{id: string, record: JournalRecord}|null>} the newest answer that was cut off, now this document's own
   */
  async find(wanted = null) {
    await this.#opened;
    /** @type {Row[]} */
    const rows = await this.#ask(RECORDS, (store) => store.getAll());
    if (rows) void sweep(rows.map(({ id }) => id));
    const ours = (/** @type {Row} */ row) => Number(row.tab === this.#before);
    const asked = (/** @type {Row} */ { record }) => wanted === null || record.conversation?.conversation?.id === wanted;
    const mine = (rows ?? []).filter((row) => (this.#place === 'local' || row.place !== 'local') && asked(row));
    for (const row of mine.sort((a, b) => ours(b) - ours(a) || b.at - a.at)) {
      if (row.tab === this.#tab || !(await hold(lockOf(row.tab), ours(row) ? LEAVING_MS : 0))) continue;
      const found = await this.#adopt(row.id);
      if (found) return found;
    }
    return null;
  }

  /** @param {string} id @returns {Promise<{id: string, record: JournalRecord}|null>} null when it was settled meanwhile */
  async #adopt(id) {
    /** @type {Row|undefined} */
    const row = await this.#ask(RECORDS, (store) => store.get(id));
    /** @type {Piece[]} */
    const written = (await this.#ask(PIECES, (store) => store.getAll(piecesOf(id)))) ?? [];
    if (!row) return null;
    this.#run([RECORDS], ([records]) => records?.put({ ...row, tab: this.#tab }));
    const pieces = new Map([...written, ...tailOf(id)].map((piece) => [piece.n, piece]));
    const record = [...pieces.values()].sort((a, b) => a.n - b.n).reduce(
      (so, { delta, provider, segment, restart }) => ({ ...so, text: restart ? delta : so.text + delta, provider, segment }),
      row.record,
    );
    return { id, record };
  }

  /** @param {string} id @param {JournalRecord} record */
  #begin(id, record) {
    this.#write();
    this.#id = id;
    this.#n = 0;
    this.#tail = [];
    setTail(id, []);
    /** @type {Row} */
    const row = { id, tab: this.#tab, place: this.#place, at: Date.now(), record };
    void this.#opened.then(() => {
      this.#run([RECORDS, PIECES], ([records, pieces]) => (pieces?.delete(piecesOf(id)), records?.put(row)));
    });
  }

  /** @param {string} id */
  #end(id) {
    if (id === this.#id) {
      this.#id = null;
      this.#waiting = [];
      this.#tail = [];
    }
    setTail(id, []);
    void drop(id);
    void this.#opened.then(() => {
      this.#run([RECORDS, PIECES], ([records, pieces]) => (pieces?.delete(piecesOf(id)), records?.delete(id)));
    });
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#database) return this.#later();
    const pieces = this.#waiting.splice(0);
    if (pieces.length) this.#run([PIECES], ([store]) => pieces.forEach((piece) => store?.put(piece)), () => this.#safe(pieces));
  }

  /** @param {Piece[]} pieces that are in the database now */
  #safe(pieces) {
    this.#tail = this.#tail.filter((piece) => !pieces.includes(piece));
    this.#marked = false;
    if (!this.#tail.length) this.mark();
  }

  /** The database is still being opened: what waits goes in then. */
  #later() {
    if (this.#waiting.length) void this.#opened.then(() => this.#database && this.#write());
  }

  /**
   * @param {string[]} names
   * @param {(stores: IDBObjectStore[]) => void} work
   * @param {() => void} [done]
   */
  #run(names, work, done = () => {}) {
    try {
      const transaction = this.#database?.transaction(names, 'readwrite', { durability: 'relaxed' });
      if (!transaction) return;
      work(names.map((name) => transaction.objectStore(name)));
      transaction.oncomplete = done;
    } catch (error) {
      console.warn('journal:', error);
    }
  }

  /**
   * @param {string} name
   * @param {(store: IDBObjectStore) => IDBRequest} work
   * @returns {Promise<any>} undefined without a database
   */
  #ask(name, work) {
    return new Promise((resolve) => {
      if (!this.#database) return resolve(undefined);
      const request = work(this.#database.transaction(name).objectStore(name));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(undefined);
    });
  }
}

/** @param {IDBDatabase} database */
function make(database) {
  database.createObjectStore(RECORDS, { keyPath: 'id' });
  database.createObjectStore(PIECES, { keyPath: ['id', 'n'] });
}

/**
 * @param {string} name of a lock that is then held for life
 * @param {number} [wait] ms that it may take; 0: now or never; left out: for ever
 * @returns {Promise<boolean>} whether it is held
 */
function hold(name, wait) {
  const options = wait === 0 ? { ifAvailable: true } : wait ? { signal: AbortSignal.timeout(wait) } : {};
  return new Promise((resolve) => {
    const held = (/** @type {Lock|null} */ lock) => (resolve(lock !== null), lock && new Promise(() => {}));
    navigator.locks.request(name, options, held).catch(() => resolve(false));
  });
}

/** @param {string} id @param {Piece[]} pieces */
function setTail(id, pieces) {
  try {
    if (pieces.length) localStorage.setItem(TAIL + id, JSON.stringify(pieces));
    else localStorage.removeItem(TAIL + id);
  } catch {
    // Storage is denied or full: the database has all but the last moment.
  }
}

/** @param {string} id @returns {Piece[]} */
function tailOf(id) {
  try {
    return JSON.parse(localStorage.getItem(TAIL + id) ?? '[]');
  } catch {
    return []; // denied, or damaged
  }
}

/** @param {string} tab this document's name @returns {string|null} that of the one before it in this tab */
function rename(tab) {
  try {
    const before = sessionStorage.getItem(TAB);
    sessionStorage.setItem(TAB, tab);
    return before;
  } catch {
    return null; // storage is denied
  }
}
