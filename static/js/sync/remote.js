/** The server's side of the sync, `/api/blobs`: bytes by name, each write over the version that it starts from (server/blobs.py). */

import { SyncError } from './errors.js';

/** @typedef {{name: string, version: number, bytes: number, deleted: boolean}} Listed */
/** @typedef {{blobs: Listed[], version: number, complete: boolean, bytes: number, count: number, quota: {blob: number, bytes: number, count: number}}} Listing */

const CODES = /** @type {Record<number, import('./errors.js').SyncCode>} */ ({ 401: 'refused', 403: 'refused', 404: 'missing', 412: 'conflict', 413: 'full', 507: 'full' });
const BYTES = 'application/octet-stream';

export class Remote {
  #signal;
  #gate;

  /**
   * @param {() => Promise<boolean>} gate whether something may leave the browser now: asked before each request
   * @param {AbortSignal} signal ends what is under way
   */
  constructor(gate, signal) {
    this.#gate = gate;
    this.#signal = signal;
  }

  /** @param {number} since a version @returns {Promise<Listing>} all after it */
  async list(since) {
    const blobs = [];
    for (let from = since; ; ) {
      const answer = await this.#ask('GET', `?since=${from}`);
      const part = await answer.json();
      blobs.push(...part.blobs);
      if (!part.more) return { ...part, blobs };
      from = part.version;
    }
  }

  /** @param {string} name @returns {Promise<{version: number, bytes: Uint8Array<ArrayBuffer>}>} rejects with missing */
  async get(name) {
    const answer = await this.#ask('GET', `/${name}`);
    return { version: versionOf(answer), bytes: new Uint8Array(await answer.arrayBuffer()) };
  }

  /** @param {string} name @param {Uint8Array<ArrayBuffer>} bytes @param {number} over the version that there is; 0: none @returns {Promise<number>} the new one; rejects with conflict */
  async put(name, bytes, over) {
    const [condition, value] = over ? ['If-Match', `"${over}"`] : ['If-None-Match', '*'];
    return versionOf(await this.#ask('PUT', `/${name}`, { headers: { 'Content-Type': BYTES, [condition]: value }, body: bytes }));
  }

  /** @param {string} name @param {number} [over] its version; any, without */
  async remove(name, over) {
    await this.#ask('DELETE', `/${name}`, { headers: { 'If-Match': over ? `"${over}"` : '*' } });
  }

  /** @param {string} method @param {string} path @param {RequestInit} [more] @returns {Promise<Response>} */
  async #ask(method, path, more = {}) {
    if (!(await this.#gate())) throw new SyncError('closed');
    let answer;
    try {
      answer = await fetch(`/api/blobs${path}`, { method, cache: 'no-store', signal: this.#signal, ...more });
    } catch {
      throw new SyncError(this.#signal.aborted ? 'closed' : 'offline');
    }
    if (!answer.ok) throw new SyncError(CODES[answer.status] ?? 'server', String(answer.status));
    return answer;
  }
}

/** @param {Response} answer */
const versionOf = (answer) => Number(/"(\d+)"/.exec(answer.headers.get('etag') ?? '')?.[1] ?? 0);
