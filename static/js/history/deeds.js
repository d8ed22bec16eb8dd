/**
 * What a person does to a conversation: name, pin, move, delete. All of it goes to the shelf by field, so that another tab, or an answer
 * under way, writes beside it.
 *
 * A deletion marks the row, and takes it away for good when its notice has gone: the tab that deleted it does, or at a next start any tab
 * that finds the mark older than UNDO_MS; until then it can be brought back from the menu. Times are compared both ways, for a clock may have been set back.
 */

import { catalogue } from '../strings.js';
import { ShelfError } from '../shelf/errors.js';
import { isNewer } from './groups.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */
/** @import {Shelf} from '../shelf.js' */
/** @import {Toasts} from '../toast.js' */

const words = catalogue.history;

/** How old the mark of a deletion is when no notice can be there any more. */
export const UNDO_MS = 10 * 60_000;

export class Deeds {
  #shelf;
  #toasts;
  /** @type {Map<string, {conversation: Row, nodes: NodeRow[]}>} what was deleted here, for as long as it can be undone */ #held = new Map();

  /** @param {Shelf} shelf @param {Toasts} toasts */
  constructor(shelf, toasts) {
    this.#shelf = shelf;
    this.#toasts = toasts;
  }

  /** @param {string} id @param {string} title @returns {Promise<boolean>} whether it is so now */
  rename(id, title) {
    return this.#write(id, { title: title.trim().slice(0, 300), titled: title.trim() !== '' });
  }

  /** @param {string} id @param {boolean} pinned */
  pin(id, pinned) {
    return this.#write(id, { pinned });
  }

  /** @param {string} id @param {string|null} folder */
  move(id, folder) {
    return this.#write(id, { folder });
  }

  /**
   * @param {Row} row
   * @param {() => void} undone when the person has changed their mind
   */
  async remove(row, undone = () => {}) {
    const { id } = row;
    const whole = await this.#shelf.read(id).catch(() => null);
    if (whole) this.#held.set(id, whole);
    if (!(await this.#write(id, { deletedAt: Date.now() }))) return;
    const text = words.deleted(row.title || words.untitled);
    this.#toasts.show('info', text, { text: words.undo, run: () => void this.#undo(id).then(undone), gone: () => void this.#purge(id) });
  }

  /** Brings back what was deleted before this page, whose notice is gone but whose row is not. @param {Row[]} rows */
  async restore(rows) {
    for (const { id } of rows) await this.#undo(id);
  }

  /** @param {Row[]} rows of which the ones deleted long ago are taken away for good */
  async sweep(rows) {
    const now = Date.now();
    for (const { id, deletedAt, v } of rows) {
      if (deletedAt && !isNewer(/** @type {Row} */ ({ v })) && Math.abs(now - deletedAt) > UNDO_MS) await this.#purge(id);
    }
  }

  /** @param {string} id */
  async #undo(id) {
    const held = this.#held.get(id);
    this.#held.delete(id);
    const there = await this.#shelf.read(id).catch(() => null);
    const nodes = there ? [] : (held?.nodes ?? []); // another tab may have taken it away
    await this.#write(id, { ...(there ? {} : held?.conversation), deletedAt: null }, nodes);
  }

  /** @param {string} id */
  async #purge(id) {
    this.#held.delete(id);
    const row = await this.#shelf.row(id);
    if (row?.deletedAt) await this.#shelf.remove(id).catch((error) => this.fail(error)); // else it was undone in another tab
  }

  /** @param {string} id @param {Partial<Row>} fields @param {NodeRow[]} [nodes] */
  async #write(id, fields, nodes = []) {
    try {
      await this.#shelf.write({ conversation: { ...fields, id }, nodes: /** @type {any} */ (nodes) });
      return true;
    } catch (error) {
      this.fail(error);
      return error instanceof ShelfError && error.code !== 'newer_schema'; // kept in memory
    }
  }

  /** @param {unknown} error */
  fail(error) {
    console.warn('history:', error);
    this.#toasts.show('error', error instanceof ShelfError ? error.message : words.failed);
  }
}
