/**
 * The encrypted sync: off until a person gives a passphrase; then a round (round.js) a moment after each change, and each minute. What
 * must not leave this browser does not: nothing at all in local-only mode or in the local-only document, and never a conversation that
 * is kept here. One tab of a browser syncs at a time.
 */

import { create, unlock } from './crypt.js';
import { SyncError, codeOf } from './errors.js';
import { Memory } from './memory.js';
import { Remote } from './remote.js';
import { Round } from './round.js';

/** @import {Keys} from './crypt.js' */
/** @import {Listing} from './remote.js' */
/** @import {Shelf} from '../shelf.js' */

/** @typedef {{state: 'off'|'idle'|'working'|'paused'|'closed'|'error', at: number|null, code: import('./errors.js').SyncCode|null, damaged: number}} Status */

const HEADER = 'sync-header';
const SOON = 4000;
const OFTEN = 60_000;

export class Sync {
  #shelf;
  #gate;
  #told;
  #memory = new Memory();
  #leaving = new AbortController();
  /** @type {Set<string>|null} what changed here; null: compare all */ #dirty = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */ #timer;
  /** @type {Promise<void>|null} */ #round = null;
  /** @type {Status} */ status = { state: 'off', at: null, code: null, damaged: 0 };

  /**
   * @param {Shelf} shelf
   * @param {() => Promise<boolean>} gate whether anything may leave the browser now
   * @param {(status: Status) => void} told of each change
   */
  constructor(shelf, gate, told) {
    this.#shelf = shelf;
    this.#gate = gate;
    this.#told = told;
    shelf.onChange(({ conversation, by }) => {
      if (by === 'sync') return;
      this.#dirty?.add(conversation);
      this.#soon(SOON);
    });
    addEventListener('online', () => this.#soon(0));
    document.addEventListener('visibilitychange', () => document.hidden || this.#soon(SOON));
  }

  /** Goes on where the last visit left off, if it was on. */
  async start() {
    const kept = await this.#memory.kept();
    if (!kept?.keys) return this.#say({ state: 'off' });
    this.#say({ state: kept.paused ? 'paused' : 'idle' });
    this.#soon(SOON);
  }

  /** @returns {Promise<boolean>} whether the server has a sync of this person's already; rejects with a SyncError */
  async exists() {
    try {
      await this.#remote().get(HEADER);
      return true;
    } catch (error) {
      if (codeOf(error) === 'missing') return false;
      throw error;
    }
  }

  /** @param {string} passphrase of a new sync, or of that which the server has; rejects with a SyncError */
  async turnOn(passphrase) {
    if (this.#shelf.trouble) throw new SyncError('storage');
    const { keys, header } = await this.#keys(passphrase);
    await this.#memory.clear();
    await this.#memory.keep({ keys, header });
    this.#dirty = null;
    this.#say({ state: 'idle', code: null });
    await this.now();
  }

  /** @param {string} passphrase @returns {Promise<{keys: Keys, header: number}>} with the header's version */
  async #keys(passphrase) {
    const remote = this.#remote();
    const there = await remote.get(HEADER).catch((error) => (codeOf(error) === 'missing' ? null : Promise.reject(error)));
    if (there) return { keys: await unlock(passphrase, headerOf(there.bytes)), header: there.version };
    const { header, keys } = await create(passphrase);
    return { keys, header: await remote.put(HEADER, new TextEncoder().encode(JSON.stringify(header)), 0) };
  }

  /** @param {boolean} paused */
  async pause(paused) {
    await this.#memory.keep({ paused });
    this.#say({ state: paused ? 'paused' : 'idle' });
    if (!paused) await this.now();
  }

  /** Forgets keys and states here; the server keeps what it has. */
  async turnOff() {
    this.stop();
    clearTimeout(this.#timer);
    await this.#round;
    await this.#memory.clear();
    this.#dirty = null;
    this.#say({ state: 'off', code: null, at: null, damaged: 0 });
  }

  /** Removes everything from the server, the header first, and turns it off here. Rejects with a SyncError. */
  async erase() {
    this.stop();
    await this.#round;
    const remote = this.#remote();
    const { blobs } = await remote.list(0);
    const there = blobs.filter(({ deleted }) => !deleted).map(({ name }) => name);
    for (const name of [...there.filter((one) => one === HEADER), ...there.filter((one) => /^[cp]-[0-9a-f]{40}$/.test(one))]) {
      await remote.remove(name).catch((error) => (codeOf(error) === 'missing' ? undefined : Promise.reject(error)));
    }
    await this.turnOff();
  }

  /** Something may leave again, or not any more: see. */
  wake() {
    this.#soon(0);
  }

  /** Ends what is under way: nothing may leave from now on. */
  stop() {
    this.#leaving.abort();
    this.#leaving = new AbortController();
  }

  /** A round now, or the one that is under way. */
  now() {
    this.#round ??= this.#once().finally(() => (this.#round = null));
    return this.#round;
  }

  async #once() {
    clearTimeout(this.#timer);
    const kept = await this.#memory.kept();
    if (!kept?.keys || kept.paused) return;
    if (!(await this.#gate())) return this.#say({ state: 'closed' });
    await navigator.locks.request('hybr-sync', { ifAvailable: true }, async (lock) => {
      if (!lock) return;
      this.#say({ state: 'working' });
      try {
        const damaged = await this.#work(kept);
        this.#say({ state: 'idle', code: null, at: Date.now(), damaged });
      } catch (error) {
        const code = codeOf(error);
        if (!code) console.warn('sync:', error);
        this.#dirty = null;
        this.#say(code === 'closed' ? { state: 'closed' } : { state: 'error', code: code ?? 'server' });
      }
    });
    this.#soon(OFTEN);
  }

  /** @param {import('./memory.js').Kept} kept @returns {Promise<number>} how many blobs could not be read */
  async #work({ keys, cursor, header }) {
    if (this.#shelf.trouble) throw new SyncError('storage');
    const remote = this.#remote();
    let listing = await remote.list(cursor);
    const all = cursor === 0 || !listing.complete;
    if (cursor !== 0 && all) listing = await remote.list(0);
    checkHeader(listing, header, all);
    const dirty = this.#dirty;
    this.#dirty = new Set();
    const { damaged, waiting } = await new Round({ shelf: this.#shelf, memory: this.#memory, remote, keys }, dirty).run(listing);
    if (!waiting) await this.#memory.keep({ cursor: listing.version });
    return damaged;
  }

  #remote() {
    return new Remote(this.#gate, this.#leaving.signal);
  }

  /** @param {number} ms */
  #soon(ms) {
    if (this.status.state === 'off' || this.status.state === 'paused') return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.now(), ms);
  }

  /** @param {Partial<Status>} change */
  #say(change) {
    this.status = { ...this.status, ...change };
    this.#told(this.status);
  }
}

/**
 * Where the header is gone, or another, the sync has been deleted by another device. What is deleted with it is not deleted here.
 * @param {Listing} listing
 * @param {number} version of the header
 * @param {boolean} all whether everything is in the list
 */
function checkHeader({ blobs }, version, all) {
  const header = blobs.find(({ name }) => name === HEADER);
  if (header ? header.deleted || header.version !== version : all) throw new SyncError('missing');
}

/** @param {Uint8Array} bytes @returns {unknown} */
function headerOf(bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new SyncError('damaged');
  }
}
