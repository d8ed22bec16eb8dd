/**
 * The encrypted sync: off until a person gives a passphrase. A round reads what other devices wrote, merges it (merge.js), and writes
 * what this one has changed, one blob a conversation. What must not leave this browser does not: nothing at all in local-only mode or
 * in the local-only document, and never a conversation that is kept here.
 *
 * One tab of a browser syncs at a time. Every write names the version it starts from, so two devices never undo each other.
 */

import { create, nameOf, opened, pressed, sealed, unlock, unpressed } from './crypt.js';
import { SyncError } from './errors.js';
import { Memory } from './memory.js';
import { baseOf, merge, same } from './merge.js';
import { Remote } from './remote.js';
import { packed } from '../exchange/rows.js';
import { VERSION } from '../shelf/change.js';

/** @import {Keys} from './crypt.js' */
/** @import {Known} from './memory.js' */
/** @import {Packed} from './merge.js' */
/** @import {Listing} from './remote.js' */
/** @import {Shelf} from '../shelf.js' */

/** @typedef {{state: 'off'|'idle'|'working'|'paused'|'closed'|'error', at: number|null, code: import('./errors.js').SyncCode|null, damaged: number}} Status */

const HEADER = 'sync-header';
const TRIES = 3;
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
    const keys = await this.#keys(passphrase);
    await this.#memory.clear();
    await this.#memory.keep({ keys });
    this.#dirty = null;
    this.#say({ state: 'idle', code: null });
    await this.now();
  }

  /** @param {string} passphrase @returns {Promise<Keys>} */
  async #keys(passphrase) {
    const remote = this.#remote();
    const there = await remote.get(HEADER).catch((error) => (codeOf(error) === 'missing' ? null : Promise.reject(error)));
    if (there) return unlock(passphrase, headerOf(there.bytes));
    const { header, keys } = await create(passphrase);
    await remote.put(HEADER, new TextEncoder().encode(JSON.stringify(header)), 0);
    return keys;
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

  /** Removes everything from the server, and turns it off here. Rejects with a SyncError. */
  async erase() {
    this.stop();
    await this.#round;
    const remote = this.#remote();
    const { blobs } = await remote.list(0);
    const ours = blobs.filter(({ name, deleted }) => !deleted && /^[cp]-[0-9a-f]{40}$/.test(name));
    for (const { name } of [...ours, ...blobs.filter(({ name, deleted }) => !deleted && name === HEADER)]) {
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
        const damaged = await this.#work(kept.keys, kept.cursor);
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

  /** @param {Keys} keys @param {number} cursor @returns {Promise<number>} how many blobs could not be read */
  async #work(keys, cursor) {
    if (this.#shelf.trouble) throw new SyncError('storage');
    const remote = this.#remote();
    let listing = await remote.list(cursor);
    if (!listing.complete) listing = await remote.list(0);
    const known = new Map((await this.#memory.known()).map((one) => [one.name, one]));
    const { damaged, waiting } = await this.#pull(keys, remote, listing, known);
    await this.#push(keys, remote, listing, known);
    if (!waiting) await this.#memory.keep({ cursor: listing.version });
    return damaged;
  }

  /** @param {Keys} keys @param {Remote} remote @param {Listing} listing @param {Map<string, Known>} known by name */
  async #pull(keys, remote, listing, known) {
    let [damaged, waiting] = [0, false];
    for (const { name, version, deleted } of listing.blobs) {
      const before = known.get(name);
      if (!/^c-[0-9a-f]{40}$/.test(name) || before?.version === version) continue;
      try {
        if (deleted) await this.#removed(before, known);
        else if ((await this.#take(keys, remote, name, known)) === 'waiting') waiting = true;
      } catch (error) {
        if (codeOf(error) === 'missing') continue; // gone meanwhile: the next list says so
        if (!['damaged', 'newer'].includes(codeOf(error) ?? '')) throw error;
        damaged += 1;
      }
    }
    return { damaged, waiting };
  }

  /** Another device has deleted a conversation. @param {Known|undefined} before @param {Map<string, Known>} known */
  async #removed(before, known) {
    if (!before) return;
    const mine = await this.#mine(before.id);
    known.delete(before.name);
    await this.#memory.forget(before.id);
    if (!mine) return;
    if (same(baseOf(mine), { row: before.row, prints: before.prints })) await this.#shelf.remove(before.id, 'sync');
    else this.#dirty?.add(before.id); // changed here since: it stays, and goes up again
  }

  /** @param {Keys} keys @param {Remote} remote @param {string} name @param {Map<string, Known>} known @returns {Promise<'waiting'|'done'>} */
  async #take(keys, remote, name, known) {
    const { one: theirs, version, parts } = await this.#fetch(keys, remote, name);
    const before = known.get(name) ?? null;
    const { id } = theirs.conversation;
    const row = (await this.#shelf.list()).find((each) => each.id === id);
    if (row && row.v > VERSION) return 'done'; // a later page's, here: it is that page's to merge
    if (row && row.deletedAt !== null) return 'waiting'; // until it is clear whether the deletion is undone
    const base = before && { row: before.row, prints: before.prints };
    const mine = row ? await this.#shelf.read(id) : null;
    if (!mine && base && same(baseOf(theirs), base)) return 'done'; // deleted here: push takes it away there
    const now = { ...baseOf(theirs), id, name, version, parts };
    if (!mine) await this.#shelf.write({ conversation: theirs.conversation, nodes: /** @type {any} */ (theirs.nodes) }, 'sync');
    else {
      const { one, write, push } = merge(base, mine, theirs);
      if (write.row || write.nodes.length || write.drop.length) {
        await this.#shelf.write({ conversation: one.conversation, nodes: /** @type {any} */ (write.nodes), drop: write.drop }, 'sync');
      }
      if (push) this.#dirty?.add(id);
    }
    known.set(name, now);
    await this.#memory.know(now);
    return 'done';
  }

  /** @param {Keys} keys @param {Remote} remote @param {Listing} listing @param {Map<string, Known>} known */
  async #push(keys, remote, listing, known) {
    const rows = new Map((await this.#shelf.list()).map((row) => [row.id, row]));
    const changed = this.#dirty ?? new Set([...rows.keys(), ...[...known.values()].map(({ id }) => id)]);
    this.#dirty = new Set();
    for (const id of changed) {
      const row = rows.get(id);
      const before = [...known.values()].find((one) => one.id === id);
      if (row && (row.v > VERSION || row.deletedAt !== null)) continue;
      if (!row || row.egress === 'never') await this.#withdraw(remote, before, known);
      else await this.#offer(keys, remote, id, listing.quota.blob, known);
    }
  }

  /** What is not here any more, or must not leave, goes from the server too. @param {Remote} remote @param {Known|undefined} before @param {Map<string, Known>} known */
  async #withdraw(remote, before, known) {
    if (!before) return;
    try {
      await remote.remove(before.name, before.version);
    } catch (error) {
      if (codeOf(error) === 'conflict') return; // changed there: the next round brings it
      if (codeOf(error) !== 'missing') throw error;
    }
    await drop(remote, before.parts);
    known.delete(before.name);
    await this.#memory.forget(before.id);
  }

  /** @param {Keys} keys @param {Remote} remote @param {string} id @param {number} most bytes of a blob @param {Map<string, Known>} known */
  async #offer(keys, remote, id, most, known) {
    const name = await nameOf(keys, id);
    for (let tries = 0; tries < TRIES; tries += 1) {
      const mine = await this.#mine(id);
      const before = known.get(name);
      if (!mine?.nodes.length || (before && same(baseOf(mine), { row: before.row, prints: before.prints }))) return;
      const { bytes, parts } = await this.#wrap(keys, remote, name, mine, most);
      try {
        const version = await remote.put(name, bytes, before?.version ?? 0);
        const now = { ...baseOf(mine), id, name, version, parts };
        known.set(name, now);
        await this.#memory.know(now);
        return await drop(remote, before?.parts ?? []);
      } catch (error) {
        await drop(remote, parts);
        if (codeOf(error) !== 'conflict') throw error;
        if ((await this.#take(keys, remote, name, known).catch((gone) => (codeOf(gone) === 'missing' ? 'gone' : Promise.reject(gone)))) === 'gone') known.delete(name);
      }
    }
  }

  /** What is too long for one blob goes into several, named in the first. @param {Keys} keys @param {Remote} remote @param {string} name @param {Packed} mine @param {number} most */
  async #wrap(keys, remote, name, mine, most) {
    const room = most - 64; // format, nonce and tag
    const bytes = await pressed({ v: 1, conversation: mine.conversation, nodes: mine.nodes });
    if (bytes.length <= room) return { bytes: await sealed(keys, name, bytes), parts: [] };
    /** @type {string[]} */
    const parts = [];
    for (let from = 0; from < bytes.length; from += room) {
      const part = `p-${[...crypto.getRandomValues(new Uint8Array(20))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
      await remote.put(part, await sealed(keys, part, bytes.slice(from, from + room)), 0);
      parts.push(part);
    }
    return { bytes: await sealed(keys, name, await pressed({ v: 1, parts })), parts };
  }

  /** @param {Keys} keys @param {Remote} remote @param {string} name @returns {Promise<{one: Packed, version: number, parts: string[]}>} */
  async #fetch(keys, remote, name) {
    const { version, bytes } = await remote.get(name);
    let content = await unpressed(await opened(keys, name, bytes));
    if (content?.v > 1) throw new SyncError('newer');
    const parts = Array.isArray(content?.parts) ? content.parts.filter((/** @type {unknown} */ one) => /^p-[0-9a-f]{40}$/.test(String(one))) : [];
    if (parts.length) {
      const pieces = [];
      for (const part of parts) pieces.push(await opened(keys, part, (await remote.get(part)).bytes));
      content = await unpressed(new Uint8Array(await new Blob(pieces).arrayBuffer()));
    }
    const one = packed(content?.conversation, content?.nodes, []);
    if (!one || (await nameOf(keys, one.conversation.id)) !== name) throw new SyncError('damaged');
    return { one, version, parts };
  }

  /** @param {string} id @returns {Promise<Packed|null>} */
  async #mine(id) {
    return this.#shelf.read(id).catch(() => null);
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

/** @param {Remote} remote @param {string[]} parts that nobody names any more */
async function drop(remote, parts) {
  for (const part of parts) await remote.remove(part).catch(() => {}); // what stays costs room, not text
}

/** @param {unknown} error */
const codeOf = (error) => (error instanceof SyncError ? error.code : null);

/** @param {Uint8Array} bytes @returns {unknown} */
function headerOf(bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new SyncError('damaged');
  }
}
