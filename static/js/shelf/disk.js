/** The shelf's IndexedDB: one transaction a change, so that a crash leaves all of it or nothing. */

import { Database, done } from '../database.js';
import { ShelfError } from './errors.js';
import { VERSION, applied, idOf, isNewer, living, touched } from './change.js';

/** @import {Change, NodeRow, Row, State} from './change.js' */

const CONVERSATIONS = 'conversations';
const NODES = 'nodes';

const nodesOf = (/** @type {string} */ id) => IDBKeyRange.bound([id], [id, []]);

/** @typedef {{rows: IDBObjectStore, nodes: IDBObjectStore}} Stores */

export class Disk {
  #database;

  /** @param {string} name of the database @param {number} [schema] its version */
  constructor(name, schema = 1) {
    this.#database = new Database(name, schema, (database) => {
      database.createObjectStore(CONVERSATIONS, { keyPath: 'id' });
      database.createObjectStore(NODES, { keyPath: ['conversation', 'id'] });
    });
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
    this.#database.close();
  }

  /**
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(stores: Stores) => Promise<T>} work that awaits nothing but requests
   * @returns {Promise<T>} when it is all in the database
   */
  async #run(mode, work) {
    await this.#database.open().catch(refuse);
    return this.#database.run([CONVERSATIONS, NODES], mode, (rows, nodes) => work({ rows, nodes })).catch((error) => {
      throw typed(error);
    });
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

/** @param {any} error why the database cannot be opened */
function refuse(error) {
  if (error?.name === 'QuotaExceededError') throw new ShelfError('storage_full');
  throw new ShelfError(error?.name === 'VersionError' ? 'newer_schema' : 'storage_denied', true);
}

/** @param {any} error @returns {ShelfError} */
function typed(error) {
  if (error instanceof ShelfError) return error;
  console.warn('shelf:', error);
  return new ShelfError(error?.name === 'QuotaExceededError' ? 'storage_full' : 'storage_failed');
}

/** @param {NodeRow[]} nodes */
const byId = (nodes) => new Map(nodes.map((node) => [node.id, node]));
