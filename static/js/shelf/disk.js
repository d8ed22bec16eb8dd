/** The shelf's IndexedDB: one transaction a change, so that a crash leaves all of it or nothing. */

import { ShelfError } from './errors.js';
import { VERSION, applied, idOf, isNewer, living, touched } from './change.js';

/** @import {Change, NodeRow, Row, State} from './change.js' */

const CONVERSATIONS = 'conversations';
const NODES = 'nodes';

const nodesOf = (/** @type {string} */ id) => IDBKeyRange.bound([id], [id, []]);

/** @typedef {{rows: IDBObjectStore, nodes: IDBObjectStore}} Stores */

export class Disk {
  #name;
  #schema;
  /** @type {Promise<IDBDatabase>|null} */ #opened = null;

  /** @param {string} name of the database @param {number} [schema] its version */
  constructor(name, schema = 1) {
    this.#name = name;
    this.#schema = schema;
  }

  /** @returns {Promise<Row[]>} */
  list() {
    return this.#run('readonly', ({ rows }) => done(rows.getAll()));
  }

  /** @param {string} id @returns {Promise<Row|null>} */
  row(id) {
    return this.#run('readonly', async ({ rows }) => (await done(rows.get(id))) ?? null);
  }

  /** @param {string} id @returns {Promise<State>} */
  read(id) {
    return this.#run('readonly', async ({ rows, nodes }) => {
      const [row, all] = await Promise.all([done(rows.get(id)), done(nodes.getAll(nodesOf(id)))]);
      return { row: row ?? null, nodes: byId(all) };
    });
  }

  /** @param {Change} change @returns {Promise<State>} the row, and the messages that the change touched, as they are now */
  write(change) {
    const id = idOf(change);
    return this.#run('readwrite', async ({ rows, nodes }) => {
      const [row, ...found] = await Promise.all([done(rows.get(id)), ...touched(change).map((node) => done(nodes.get([id, node])))]);
      const before = { row: row ?? null, nodes: byId(found.filter(Boolean)) };
      if (isNewer(before)) throw new ShelfError('newer_schema');
      const after = applied(before, change);
      for (const node of [...after.nodes.values()]) await graves(node, after.nodes, nodes);
      const now = byId(living(after.nodes.values()));
      rows.put(after.row);
      for (const node of touched(change)) if (after.nodes.has(node)) nodes.put(now.get(node) ?? after.nodes.get(node));
      return after;
    });
  }

  /** @param {string} id */
  remove(id) {
    return this.#run('readwrite', async ({ rows, nodes }) => {
      const row = await done(rows.get(id));
      if (row?.v > VERSION) throw new ShelfError('newer_schema');
      rows.delete(id);
      nodes.delete(nodesOf(id));
    });
  }

  /** Lets go of the database; the next use opens it again. */
  close() {
    void this.#opened?.then((database) => database.close(), () => {});
    this.#opened = null;
  }

  /**
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(stores: Stores) => Promise<T>} work that awaits nothing but requests
   * @returns {Promise<T>} when it is all in the database
   */
  async #run(mode, work) {
    const transaction = (await this.#database()).transaction([CONVERSATIONS, NODES], mode);
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(typed(transaction.error));
    });
    ended.catch(() => {}); // where the work itself has failed, that is told
    try {
      const result = await work({ rows: transaction.objectStore(CONVERSATIONS), nodes: transaction.objectStore(NODES) });
      await ended;
      return result;
    } catch (error) {
      quietly(() => transaction.abort());
      throw typed(error);
    }
  }

  #database() {
    this.#opened ??= open(this.#name, this.#schema).then(
      (database) => {
        database.onversionchange = () => this.close(); // a later page is about to change it
        database.onclose = () => (this.#opened = null); // the person has cleared this site's data
        return database;
      },
      (error) => {
        this.#opened = null;
        throw error;
      },
    );
    return this.#opened;
  }
}

/**
 * Finds the gravestones above a message, for what another tab has dropped meanwhile.
 * @param {NodeRow} node
 * @param {Map<string, NodeRow>} known they are added to it
 * @param {IDBObjectStore} nodes
 */
async function graves({ conversation, parent }, known, nodes) {
  for (let at = parent; at !== null && !known.has(at); ) {
    const above = await done(nodes.get([conversation, at]));
    if (!above?.gone) return;
    known.set(at, above);
    at = above.parent;
  }
}

/** @param {string} name @param {number} schema @returns {Promise<IDBDatabase>} rejects with a ShelfError */
function open(name, schema) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, schema);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(CONVERSATIONS, { keyPath: 'id' });
      request.result.createObjectStore(NODES, { keyPath: ['conversation', 'id'] });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }).catch((error) => {
    if (error?.name === 'QuotaExceededError') throw new ShelfError('storage_full');
    throw new ShelfError(error?.name === 'VersionError' ? 'newer_schema' : 'storage_denied', true);
  });
}

/** @param {any} error @returns {ShelfError} */
function typed(error) {
  if (error instanceof ShelfError) return error;
  console.warn('shelf:', error);
  return new ShelfError(error?.name === 'QuotaExceededError' ? 'storage_full' : 'storage_failed');
}

/** @param {IDBRequest} request @returns {Promise<any>} */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {NodeRow[]} nodes */
const byId = (nodes) => new Map(nodes.map((node) => [node.id, node]));

/** @param {() => void} work that may have been done already */
function quietly(work) {
  try {
    work();
  } catch {
    // It was.
  }
}
