/**
 * One round of the sync: what other devices wrote is read and merged (merge.js), then what this one has changed is written, one blob a
 * conversation (parcel.js). Every write names the version that it starts from, so two devices never undo each other.
 */

import { nameOf } from './crypt.js';
import { codeOf } from './errors.js';
import { baseOf, merge, same } from './merge.js';
import { drop, receive, send } from './parcel.js';
import { VERSION } from '../shelf/change.js';

/** @import {Keys} from './crypt.js' */
/** @import {Known, Memory} from './memory.js' */
/** @import {Packed} from './merge.js' */
/** @import {Listing, Remote} from './remote.js' */
/** @import {Shelf} from '../shelf.js' */

/** @typedef {{shelf: Shelf, memory: Memory, remote: Remote, keys: Keys}} Ends */

const TRIES = 3;
const NAME = /^c-[0-9a-f]{40}$/;

export class Round {
  #shelf;
  #memory;
  #remote;
  #keys;
  #dirty;
  /** @type {Map<string, Known>} by blob: the state that both sides had */ #known = new Map();

  /** @param {Ends} ends @param {Set<string>|null} dirty what changed here; null: compare all */
  constructor({ shelf, memory, remote, keys }, dirty) {
    this.#shelf = shelf;
    this.#memory = memory;
    this.#remote = remote;
    this.#keys = keys;
    this.#dirty = dirty;
  }

  /** @param {Listing} listing what changed there @returns {Promise<{damaged: number, waiting: boolean}>} `waiting`: something must be read again */
  async run(listing) {
    this.#known = new Map((await this.#memory.known()).map((one) => [one.name, one]));
    const found = await this.#pull(listing);
    await this.#push(listing.quota.blob);
    return found;
  }

  /** @param {Listing} listing */
  async #pull({ blobs }) {
    let [damaged, waiting] = [0, false];
    for (const { name, version, deleted } of blobs) {
      const before = this.#known.get(name);
      if (!NAME.test(name) || before?.version === version) continue;
      try {
        if (deleted) await this.#removed(before);
        else if ((await this.#take(name)) === 'waiting') waiting = true;
      } catch (error) {
        const code = codeOf(error);
        if (code === 'missing') continue; // gone meanwhile: the next list says so
        if (code !== 'damaged' && code !== 'newer') throw error;
        damaged += 1;
        if (before && code === 'damaged') this.#mend(before, version);
      }
    }
    return { damaged, waiting };
  }

  /** What is damaged there and known here goes up again. @param {Known} before @param {number} version */
  #mend(before, version) {
    this.#known.set(before.name, { ...before, version, prints: {} });
    this.#dirty?.add(before.id);
  }

  /** Another device has deleted a conversation. @param {Known|undefined} before */
  async #removed(before) {
    if (!before) return;
    const mine = await this.#mine(before.id);
    this.#known.delete(before.name);
    await this.#memory.forget(before.id);
    if (!mine) return;
    if (unchanged(before, mine)) await this.#shelf.remove(before.id, 'sync');
    else this.#dirty?.add(before.id); // changed here since: it stays, and goes up again
  }

  /** @param {string} name @returns {Promise<'waiting'|'done'>} */
  async #take(name) {
    const { one: theirs, version, parts } = await receive(this.#remote, this.#keys, name);
    const before = this.#known.get(name);
    const { id } = theirs.conversation;
    const row = await this.#shelf.row(id);
    if (row && row.v > VERSION) return 'done'; // a later page's, here: it is that page's to merge
    if (row && row.deletedAt !== null) return 'waiting'; // until it is clear whether the deletion is undone
    if (!row && before && unchanged(before, theirs)) return 'done'; // deleted here: push takes it away there
    if (row) await this.#meet(before ?? null, await this.#shelf.read(id), theirs);
    else await this.#shelf.write({ conversation: theirs.conversation, nodes: /** @type {any} */ (theirs.nodes) }, 'sync');
    await this.#know({ ...baseOf(theirs), id, name, version, parts });
    return 'done';
  }

  /** @param {Known|null} base @param {Packed} mine @param {Packed} theirs */
  async #meet(base, mine, theirs) {
    const { one, write, push } = merge(base, mine, theirs);
    if (push) this.#dirty?.add(one.conversation.id);
    if (!write.row && !write.nodes.length && !write.drop.length) return;
    await this.#shelf.write({ conversation: one.conversation, nodes: /** @type {any} */ (write.nodes), drop: write.drop }, 'sync');
  }

  /** @param {number} most bytes of a blob */
  async #push(most) {
    const rows = new Map((await this.#shelf.list()).map((row) => [row.id, row]));
    const changed = this.#dirty ?? new Set([...rows.keys(), ...[...this.#known.values()].map(({ id }) => id)]);
    for (const id of changed) {
      const row = rows.get(id);
      if (!row) await this.#withdraw([...this.#known.values()].find((one) => one.id === id));
      else if (row.v <= VERSION && row.deletedAt === null && row.egress !== 'never') await this.#offer(id, most);
    }
  }

  /** What is not here any more goes from the server too. @param {Known|undefined} before */
  async #withdraw(before) {
    if (!before) return;
    try {
      await this.#remote.remove(before.name, before.version);
    } catch (error) {
      if (codeOf(error) === 'conflict') return; // changed there: the next round brings it
      if (codeOf(error) !== 'missing') throw error;
    }
    await drop(this.#remote, before.parts);
    this.#known.delete(before.name);
    await this.#memory.forget(before.id);
  }

  /** @param {string} id @param {number} most */
  async #offer(id, most) {
    const name = await nameOf(this.#keys, id);
    for (let tries = 0; tries < TRIES; tries += 1) {
      const mine = await this.#mine(id);
      const before = this.#known.get(name);
      if (!mine?.nodes.length || (before && unchanged(before, mine))) return;
      try {
        const sent = await send(this.#remote, this.#keys, name, mine, { most, over: before?.version ?? 0 });
        await this.#know({ ...baseOf(mine), id, name, ...sent });
        return await drop(this.#remote, before?.parts ?? []);
      } catch (error) {
        if (codeOf(error) !== 'conflict') throw error;
        await this.#again(name, id);
      }
    }
  }

  /** Somebody has written it meanwhile: what they wrote is taken, or mended where it is damaged. @param {string} name @param {string} id */
  async #again(name, id) {
    try {
      await this.#take(name);
    } catch (error) {
      if (codeOf(error) === 'missing') this.#known.delete(name);
      else if (codeOf(error) !== 'damaged') throw error;
      else this.#mend({ id, name, version: 0, parts: [], row: {}, prints: {} }, (await this.#remote.get(name)).version);
    }
  }

  /** @param {Known} known */
  async #know(known) {
    this.#known.set(known.name, known);
    await this.#memory.know(known);
  }

  /** @param {string} id @returns {Promise<Packed|null>} */
  #mine(id) {
    return this.#shelf.read(id).catch(() => null);
  }
}

/** @param {Known} before @param {Packed} now */
const unchanged = ({ row, prints }, now) => same(baseOf(now), { row, prints });
