/**
 * A long file's pieces, kept while it travels, so that a download that was cut, cancelled or reloaded goes on where it was.
 *
 * Pieces are believed no more than the network is: the whole is checked against its sha256 before anything reads it, and then, right or
 * wrong, the pieces go. They are keyed by the sum that the model list states, so another revision's are never taken for this one's.
 */

/** @import {Item} from './store.js' */

const CACHE = 'hybr/pieces';
const PIECE = 8 << 20;
/** Files up to here begin anew: no more than a piece would be lost. */
const LONG = PIECE;

/** @param {Item} item @param {number} at offset @returns {string} */
const keyOf = ({url, sha256}, at) => `${url}?sha256=${sha256}&at=${at}`;

/** Where the browser keeps nothing, there are no pieces: the download itself then says why it cannot be kept. */
const open = () => caches.open(CACHE).catch(() => null);

/** @param {Item} item @returns {Promise<number>} bytes that are here of it */
export async function piecesOf(item) {
  const cache = item.bytes !== null && item.bytes > LONG ? await open() : null;
  let have = 0;
  while (cache && (await cache.match(keyOf(item, have)))) have += PIECE;
  return have;
}

export class Pieces {
  #item;
  #kept = 0;

  /** @param {Item} item */
  constructor(item) {
    this.#item = item;
  }

  /** @param {Uint8Array<ArrayBuffer>} body filled with what is here @returns {Promise<number>} how many bytes that is */
  async restore(body) {
    this.#kept = 0;
    if (body.length <= LONG) return 0;
    const cache = await open();
    for (let at = 0; at + PIECE <= body.length; at += PIECE) {
      const piece = await (await cache?.match(keyOf(this.#item, at)))?.arrayBuffer();
      if (piece?.byteLength !== PIECE) break;
      body.set(new Uint8Array(piece), at);
      this.#kept = at + PIECE;
    }
    return this.#kept;
  }

  /** @param {Uint8Array<ArrayBuffer>} body @param {number} length of what has come @returns {Promise<void>} keeps every whole piece */
  async keep(body, length) {
    while (body.length > LONG && this.#kept + PIECE <= length) {
      const at = this.#kept;
      this.#kept += PIECE;
      // Room that runs out is the whole file's failure to tell.
      await (await open())?.put(keyOf(this.#item, at), new Response(body.slice(at, at + PIECE))).catch(() => {});
    }
  }

  /** Forget them all. */
  async drop() {
    if (this.#item.bytes !== null && this.#item.bytes > LONG) await dropPieces(`${this.#item.url}?`);
  }
}

/** @param {string} prefix of the addresses of a model's files @returns {Promise<void>} */
export async function dropPieces(prefix) {
  const cache = await open();
  for (const request of (await cache?.keys()) ?? []) if (request.url.startsWith(prefix)) await cache?.delete(request);
}
