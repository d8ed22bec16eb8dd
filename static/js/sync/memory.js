/**
 * What the sync remembers in this browser: its keys (which cannot be extracted), how far it has read, and of each conversation the state
 * that the server has. A browser that refuses the database has a sync that lasts as long as the page.
 */

import { done, opening } from '../database.js';

/** @import {Keys} from './crypt.js' */
/** @import {Base} from './merge.js' */

/** @typedef {{keys: Keys, header: number, cursor: number, paused: boolean}} Kept `header`: its version */
/** @typedef {Base & {id: string, name: string, version: number, parts: string[]}} Known */

const STATE = 'state';

export class Memory {
  /** @type {Promise<IDBDatabase|null>|null} */ #opened = null;
  /** @type {Map<string, any>} */ #instead = new Map();

  /** @returns {Promise<Kept|null>} */
  async kept() {
    return (await this.#get(STATE)) ?? null;
  }

  /** @param {Partial<Kept>} change */
  async keep(change) {
    await this.#put(STATE, { cursor: 0, paused: false, ...(await this.kept()), ...change });
  }

  /** @returns {Promise<Known[]>} */
  async known() {
    const database = await this.#database();
    const all = database ? await done(database.transaction('kept').objectStore('kept').getAll()) : [...this.#instead.values()];
    return all.filter((/** @type {any} */ one) => one.prints);
  }

  /** @param {Known} known */
  know(known) {
    return this.#put(`of ${known.id}`, known);
  }

  /** @param {string} id */
  async forget(id) {
    const database = await this.#database();
    this.#instead.delete(`of ${id}`);
    if (database) await done(database.transaction('kept', 'readwrite').objectStore('kept').delete(`of ${id}`));
  }

  async clear() {
    const database = await this.#database();
    this.#instead.clear();
    if (database) await done(database.transaction('kept', 'readwrite').objectStore('kept').clear());
  }

  /** @param {string} key */
  async #get(key) {
    const database = await this.#database();
    return database ? done(database.transaction('kept').objectStore('kept').get(key)) : this.#instead.get(key);
  }

  /** @param {string} key @param {any} value */
  async #put(key, value) {
    const database = await this.#database();
    if (database) await done(database.transaction('kept', 'readwrite').objectStore('kept').put(value, key));
    else this.#instead.set(key, value);
  }

  #database() {
    this.#opened ??= opening('hybr-sync', 1, (made) => made.createObjectStore('kept')).catch(() => null);
    return this.#opened;
  }
}
