/** Python's way to the shelf: its questions are answered, and what others change is told. */

import { ShelfError } from './shelf.js';

/** @import {Shelf} from './shelf.js' */
/** @import {ShelfAnswer, ShelfRequest} from './protocol.js' */

export class Shelving {
  #shelf;
  #post;
  /** @type {Set<Promise<unknown>>} */ #writes = new Set();

  /** @param {Shelf} shelf @param {(message: ShelfAnswer) => void} post */
  constructor(shelf, post) {
    this.#shelf = shelf;
    this.#post = post;
    shelf.onChange(({ kind, by, ...changed }) => {
      if (by !== 'python') post({ kind: 'shelf-changed', change: kind, by: by === 'tab' ? 'tab' : 'page', ...changed });
    });
  }

  /** @param {ShelfRequest} message */
  receive(message) {
    const { id, op, args } = message;
    const work = op === 'read' ? this.#shelf.read(args[0]) : this.#write(/** @type {any} */ (args[0]));
    work.then(
      (value) => this.#post({ kind: 'shelf-result', id, value }),
      (/** @type {Error} */ error) => this.#post({ kind: 'shelf-error', id, error: wire(error) }),
    );
  }

  /** When all that Python has written so far is in the database, or could not be. @returns {Promise<boolean>} whether it is */
  async written() {
    const ends = await Promise.allSettled(this.#writes);
    return this.#shelf.trouble === null && ends.every(({ status }) => status === 'fulfilled');
  }

  /** @param {any} change */
  #write(change) {
    const writing = this.#shelf.write(change, 'python');
    this.#writes.add(writing);
    void writing.catch(() => {}).then(() => this.#writes.delete(writing));
    return writing.then(() => null);
  }
}

/** @param {Error} error */
function wire(error) {
  return { name: error.name, message: error.message, code: error instanceof ShelfError ? error.code : 'storage_failed' };
}
