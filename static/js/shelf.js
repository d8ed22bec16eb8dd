/**
 * The shelf: the one module that touches the database of conversations, `hybr-history`. Browser only; nothing of it reaches a server.
 *
 *     shelf.list()         every conversation's row, the deleted ones and those of a later version (`row.v > VERSION`) included
 *     shelf.row(id)        one of them, or null
 *     shelf.read(id)       {conversation, nodes}; rejects with not_found, or newer_schema for what this page cannot understand
 *     shelf.write(change)  {conversation?: {id, ...fields}, nodes?: [...], drop?: [ids]}, all of it or nothing
 *     shelf.remove(id)     for ever; what can be undone is a write of `deletedAt`
 *     shelf.scan()         every conversation that lives, one at a time, with its messages
 *     shelf.onChange(fn)   each change, this tab's and the others': {conversation, kind: 'written'|'removed', row, nodes, drop, by}
 *     shelf.onTrouble(fn)  a ShelfError that concerns the whole shelf, told once
 *
 * What cannot be stored is kept in memory, read back like the rest, and stored with the next write that works: a full disk costs no
 * text that is on the screen, and a browser that denies the database gets a shelf that lasts as long as the page.
 */

import { VERSION, applied, idOf, isNewer, living, merged } from './shelf/change.js';
import { Disk } from './shelf/disk.js';
import { ShelfError } from './shelf/errors.js';

/** @import {Change, NodeRow, Row, State} from './shelf/change.js' */

export { ShelfError, VERSION };

/**
 * @typedef {object} Changed
 * @property {string} conversation its id
 * @property {'written'|'removed'} kind
 * @property {Row} [row] whole, as it is now
 * @property {NodeRow[]} [nodes] those that were written, whole
 * @property {string[]} [drop] ids of those that are gone
 * @property {string} by 'page' (the shell), 'python', or 'tab': another tab
 */

const NAME = 'hybr-history';

export class Shelf {
  #disk;
  #channel;
  /** @type {Map<string, Change>} by conversation: what is not stored */ #unsaved = new Map();
  /** @type {Set<(change: Changed) => void>} */ #heard = new Set();
  /** @type {Set<(error: ShelfError) => void>} */ #troubled = new Set();
  /** @type {ShelfError|null} why there is no database */ #without = null;
  /** @type {Promise<unknown>} the write under way */ #last = Promise.resolve();

  /** @param {string} [name] of the database, and of the channel */
  constructor(name = NAME) {
    this.#disk = new Disk(name);
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }) => this.#tell({ ...data, by: 'tab' });
  }

  /** Why nothing can be stored here, if that is so. @returns {ShelfError|null} */
  get trouble() {
    return this.#without;
  }

  /** @param {(change: Changed) => void} heard @returns {() => void} ends it */
  onChange(heard) {
    this.#heard.add(heard);
    return () => void this.#heard.delete(heard);
  }

  /** @param {(error: ShelfError) => void} heard told at once of a trouble there is already */
  onTrouble(heard) {
    this.#troubled.add(heard);
    if (this.#without) heard(this.#without);
  }

  /** @returns {Promise<Row[]>} */
  async list() {
    await this.#last; // what was written before is in it
    const stored = await this.#try(() => this.#disk.list(), []);
    const rows = new Map(stored.map((row) => [row.id, row]));
    for (const [id, change] of this.#unsaved) {
      const { row } = applied({ row: rows.get(id) ?? null, nodes: new Map() }, change);
      if (row) rows.set(id, row);
    }
    return [...rows.values()];
  }

  /** @param {string} id @returns {Promise<Row|null>} as `list` has it */
  async row(id) {
    await this.#last;
    const row = await this.#try(() => this.#disk.row(id), null);
    const waiting = this.#unsaved.get(id);
    return waiting ? applied({ row, nodes: new Map() }, waiting).row : row;
  }

  /** @param {string} id @returns {Promise<{conversation: Row, nodes: NodeRow[]}>} */
  async read(id) {
    await this.#last;
    const state = await this.#state(id);
    if (!state.row) throw new ShelfError('not_found');
    if (isNewer(state)) throw new ShelfError('newer_schema');
    return { conversation: state.row, nodes: living(state.nodes.values()) };
  }

  /**
   * @param {Change} change
   * @param {string} [by] told to who listens in this tab
   * @returns {Promise<Row>} rejects with newer_schema (nothing is changed), or storage_full and storage_failed (kept in memory)
   */
  write(change, by = 'page') {
    const written = this.#last.then(() => this.#write(change, by));
    this.#last = written.catch(() => {});
    return written;
  }

  /** @param {string} id @param {string} [by] */
  async remove(id, by = 'page') {
    await this.#last;
    await this.#try(() => this.#disk.remove(id), undefined);
    this.#unsaved.delete(id);
    const change = { conversation: id, kind: /** @type {const} */ ('removed') };
    this.#channel.postMessage(change);
    this.#tell({ ...change, by });
  }

  /** @returns {AsyncGenerator<{conversation: Row, nodes: NodeRow[]}>} */
  async *scan() {
    for (const { id, v, deletedAt } of await this.list()) {
      if (v > VERSION || deletedAt !== null) continue;
      const found = await this.read(id).catch(() => null); // removed meanwhile
      if (found) yield found;
    }
  }

  /** One at a time: what failed must not be laid over what came after it. @param {Change} change @param {string} by */
  async #write(change, by) {
    const id = idOf(change);
    const waiting = this.#unsaved.get(id);
    let failure = null;
    const after = await this.#try(() => this.#disk.write(waiting ? merged(waiting, change) : change), null).catch((error) => {
      if (!(error instanceof ShelfError) || error.code === 'newer_schema') throw error;
      failure = error;
      return null;
    });
    if (after) this.#unsaved.delete(id);
    const state = after ?? (await this.#keep(id, change));
    this.#written(id, state, change, by, after !== null);
    if (failure) throw failure;
    return /** @type {Row} */ (state.row);
  }

  /** @param {string} id @returns {Promise<State>} */
  async #state(id) {
    const stored = await this.#try(() => this.#disk.read(id), { row: null, nodes: new Map() });
    const waiting = this.#unsaved.get(id);
    return waiting ? applied(stored, waiting) : stored;
  }

  /** @param {string} id @param {Change} change what could not be stored @returns {Promise<State>} */
  async #keep(id, change) {
    const waiting = this.#unsaved.get(id);
    const kept = waiting ? merged(waiting, change) : change;
    this.#unsaved.set(id, kept);
    return this.#state(id).catch(() => applied({ row: null, nodes: new Map() }, kept));
  }

  /**
   * @template T
   * @param {() => Promise<T>} work with the database
   * @param {T} without its result where there is none
   * @returns {Promise<T>}
   */
  async #try(work, without) {
    if (this.#without) return without;
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ShelfError && error.whole)) throw error;
      if (!this.#without) {
        this.#without = error;
        for (const heard of this.#troubled) heard(error);
      }
      return without;
    }
  }

  /** @param {string} id @param {State} after @param {Change} change @param {string} by @param {boolean} stored */
  #written(id, { row, nodes }, change, by, stored) {
    const now = living(nodes.values());
    const ids = new Set((change.nodes ?? []).map((node) => node.id));
    /** @type {Omit<Changed, 'by'>} */
    const changed = { conversation: id, kind: 'written', nodes: now.filter((node) => ids.has(node.id)), drop: change.drop ?? [] };
    if (row) changed.row = row;
    if (stored) this.#channel.postMessage(changed);
    this.#tell({ ...changed, by });
  }

  /** @param {Changed} changed */
  #tell(changed) {
    for (const heard of this.#heard) heard(changed);
  }
}

export const shelf = new Shelf();
