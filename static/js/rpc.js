/**
 * Calls from the page's JavaScript into Python: promises for what answers once, async iterables for what streams.
 *
 * A stop (AbortSignal, or leaving a `for await`) sends one `rpc-cancel`; no chunk is handed out after it. The call then
 * settles with Python's own `Aborted`, which carries text and usage so far, or with ours if Python does not answer in
 * GRACE_MS: a stop must never hang.
 */

import { aborted, coded, fromWire } from './errors.js';

/** @import {CodedError} from './errors.js' */
/** @import {Chunk, FromPython, RpcAnswer, RpcRequest, WireChunk} from './protocol.js' */

const GRACE_MS = 1000;

/**
 * @typedef {object} Pending
 * @property {(value: unknown) => void} result
 * @property {(error: CodedError) => void} error
 * @property {(chunk: WireChunk) => void} chunk
 */

export class Rpc {
  #post;
  #count = 0;
  /** @type {Map<string, Pending>} */
  #pending = new Map();
  /** @type {CodedError|null} why nothing can be asked any more */
  #broken = null;

  /** @param {(message: RpcRequest) => void} post */
  constructor(post) {
    this.#post = post;
  }

  /** Calls under way. */
  get size() {
    return this.#pending.size;
  }

  /**
   * @param {RpcAnswer|FromPython} message
   * @returns {boolean} whether it was an answer
   */
  receive(message) {
    if (!message.kind.startsWith('rpc-')) return false;
    const answer = /** @type {RpcAnswer} */ (message);
    const pending = this.#pending.get(answer.id);
    if (answer.kind === 'rpc-chunk') pending?.chunk(answer.chunk);
    else {
      this.#pending.delete(answer.id);
      if (answer.kind === 'rpc-result') pending?.result(answer.value);
      else pending?.error(fromWire(answer.error));
    }
    return true;
  }

  /**
   * Every call under way, and every later one, fails with `error`: the Python worker is gone.
   * @param {CodedError} error
   */
  fail(error) {
    this.#broken = error;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const one of pending) one.error(error);
  }

  /**
   * @param {string} module
   * @param {string} method
   * @param {unknown[]} args
   * @param {AbortSignal|null} [signal]
   * @returns {Promise<any>}
   */
  async call(module, method, args, signal = null) {
    if (signal?.aborted) throw aborted();
    const { promise, resolve, reject } = Promise.withResolvers();
    const id = this.#open(module, method, args, { result: resolve, error: reject, chunk: () => {} });
    const onAbort = () => this.#cancel(id, () => reject(aborted()), () => reject(aborted()));
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /**
   * Nothing is asked before the first `next()`, as with any generator.
   * @param {string} module
   * @param {string} method
   * @param {unknown[]} args
   * @param {AbortSignal|null} [signal]
   * @returns {AsyncIterableIterator<Chunk>}
   */
  stream(module, method, args, signal = null) {
    return new Stream(
      (pending) => this.#open(module, method, args, pending),
      (id, late) => this.#cancel(id, late, late),
      signal,
    );
  }

  /**
   * @param {string} module
   * @param {string} method
   * @param {unknown[]} args
   * @param {Pending} pending
   * @returns {string} the call's id
   */
  #open(module, method, args, pending) {
    if (this.#broken) throw this.#broken;
    const id = `js-${(this.#count += 1)}`;
    const request = /** @type {RpcRequest} */ ({ kind: 'rpc', id, module, method, args: plain(args, `${module}.${method}`) });
    this.#pending.set(id, pending);
    this.#post(request);
    return id;
  }

  /**
   * @param {string} id
   * @param {() => void} late called when Python did not answer in time
   * @param {() => void} result called when Python answered with a result after all: the stop still holds
   */
  #cancel(id, late, result) {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#post({ kind: 'rpc-cancel', id });
    const timer = setTimeout(() => this.#pending.delete(id) && late(), GRACE_MS);
    const done = () => clearTimeout(timer);
    this.#pending.set(id, {
      chunk: () => {},
      result: () => (done(), result()),
      error: (error) => (done(), pending.error(error)),
    });
  }
}

/** One streamed answer. @implements {AsyncIterableIterator<Chunk>} */
class Stream {
  #start;
  #stop;
  #signal;
  /** @type {string|null} */
  #id = null;
  #text = '';
  /** @type {Chunk[]} */
  #chunks = [];
  /** @type {CodedError|null} */
  #error = null;
  #over = false;
  #stopping = false;
  /** @type {(() => void)[]} wakes those who wait in next(), in their order */
  #waiting = [];

  /**
   * @param {(pending: Pending) => string} start
   * @param {(id: string, late: () => void) => void} stop
   * @param {AbortSignal|null} signal
   */
  constructor(start, stop, signal) {
    this.#start = start;
    this.#stop = stop;
    this.#signal = signal;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<Chunk>>} */
  async next() {
    if (this.#id === null && !this.#over) this.#open();
    while (!this.#chunks.length && !this.#over) {
      const { promise, resolve } = Promise.withResolvers();
      this.#waiting.push(() => resolve(undefined));
      await promise;
    }
    const value = this.#chunks.shift();
    if (value) return { value, done: false };
    const error = this.#error;
    this.#error = null; // thrown once; after that the iterator is simply over
    if (error) throw error;
    return { value: undefined, done: true };
  }

  /** @returns {Promise<IteratorResult<Chunk>>} */
  async return() {
    this.#chunks = [];
    if (this.#id !== null && !this.#over) this.#stop(this.#id, () => {});
    this.#settle(null);
    return { value: undefined, done: true };
  }

  #open() {
    if (this.#signal?.aborted) return this.#settle(aborted());
    this.#id = this.#start({
      chunk: (chunk) => this.#take(chunk),
      result: () => this.#settle(null),
      error: (error) => this.#settle(error),
    });
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  #onAbort = () => {
    if (this.#over || this.#id === null) return;
    this.#chunks = []; // no chunk follows a stop
    this.#stopping = true;
    this.#stop(this.#id, () => this.#settle(aborted({ text: this.#text })));
  };

  /** @param {WireChunk} chunk */
  #take(chunk) {
    if (this.#over || this.#stopping) return;
    this.#text = chunk.restart ? chunk.delta : this.#text + chunk.delta;
    this.#chunks.push({ ...chunk, text: this.#text });
    this.#wake();
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** @param {CodedError|null} error */
  #settle(error) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#wake();
  }
}

/**
 * JSON would turn NaN into null, which means "not given"; Python is to see it and refuse it by its field's name.
 * @param {string} _key
 * @param {unknown} value
 */
const finite = (_key, value) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value);

/**
 * What crosses to Python is JSON; anything else is the caller's mistake and is said here, where it was made.
 * @param {unknown[]} args
 * @param {string} what
 * @returns {unknown[]}
 */
function plain(args, what) {
  try {
    return JSON.parse(JSON.stringify(args, finite));
  } catch (error) {
    throw coded('CallerError', `${what} takes plain JSON values only: ${/** @type {Error} */ (error).message}`, 'invalid_request');
  }
}
