/**
 * A caller's own cloud client, called from Python: `Hybrid.init(client)` leaves the client here, Python asks with `cloud-call`.
 * The client has `stream(messages, options)` (an async iterable of strings or `{delta}`), or `complete(messages, options)`, or
 * the blueprint's `callApiWithRetry(history, apiKey, functions, options)`, which speaks Gemini's schema. It gets an
 * AbortSignal in `options.signal`, and nothing is passed on after an abort.
 */

import { coded, toWire } from './errors.js';

/** @import {ChatMessage, CloudAnswer, CloudRequest} from './protocol.js' */

/** @typedef {{stream?: Function, complete?: Function, callApiWithRetry?: Function}} Callable */
/** @typedef {Callable & {api?: Callable}} CloudClient */
/** @typedef {(messages: ChatMessage[], options: object, emit: (delta: string) => void) => Promise<any>} Ask */

export class CloudCaller {
  #post;
  /** @type {object|null} the gateway's facade: not a client of the caller's own */
  builtin = null;
  /** @type {Ask|null} */
  #ask = null;
  /** @type {Map<string, AbortController>} */
  #calls = new Map();

  /** @param {(message: CloudAnswer) => void} post */
  constructor(post) {
    this.#post = post;
  }

  /**
   * @param {CloudClient|object|null} client
   * @returns {{kind: 'caller'}|null} what Python is told: null means the gateway
   */
  register(client) {
    const own = client !== null && client !== this.builtin;
    this.#ask = own ? adapt(/** @type {CloudClient} */ (client)) : null;
    return own ? { kind: 'caller' } : null;
  }

  /** @param {CloudRequest} message */
  receive(message) {
    if (message.kind === 'cloud-abort') this.#calls.get(message.id)?.abort();
    else void this.#answer(message.id, message.messages, message.options);
  }

  /**
   * @param {string} id
   * @param {ChatMessage[]} messages
   * @param {Record<string, unknown>} options
   */
  async #answer(id, messages, options) {
    const call = new AbortController();
    this.#calls.set(id, call);
    const emit = (/** @type {string} */ delta) => {
      if (!call.signal.aborted) this.#post({ kind: 'cloud-chunk', id, chunk: { delta } });
    };
    /** @type {CloudAnswer} */
    let answer;
    try {
      if (!this.#ask) throw coded('CloudUnavailableError', 'No cloud client was given to Hybrid.init().', 'cloud_unavailable');
      const value = await this.#ask(messages, { ...options, signal: call.signal }, emit);
      answer = { kind: 'cloud-result', id, value: normalise(value) };
    } catch (error) {
      answer = { kind: 'cloud-error', id, error: toWire(error) };
    }
    this.#calls.delete(id);
    if (!call.signal.aborted) this.#post(answer);
  }
}

/**
 * @param {CloudClient} client
 * @returns {Ask}
 */
function adapt(client) {
  for (const holder of [client, client?.api]) {
    if (typeof holder?.stream === 'function') return (messages, options, emit) => drain(holder.stream?.(messages, options), emit);
    if (typeof holder?.complete === 'function') return async (messages, options) => holder.complete?.(messages, options);
    if (typeof holder?.callApiWithRetry === 'function') {
      return async (messages, options) => holder.callApiWithRetry?.(toGemini(messages), null, [], options);
    }
  }
  const message = 'Hybrid.init(cloudClient) needs a client with complete(messages, options), stream(...) or '
    + 'callApiWithRetry(...); leave it out to use the server.';
  throw coded('CallerError', message, 'invalid_request', { field: 'cloudClient' });
}

/**
 * @param {AsyncIterable<any>} stream
 * @param {(delta: string) => void} emit
 * @returns {Promise<object>} the last piece with the whole text
 */
async function drain(stream, emit) {
  let text = '';
  let last = {};
  for await (const piece of stream) {
    const delta = typeof piece === 'string' ? piece : String(piece?.delta ?? '');
    if (delta) emit(delta);
    text += delta;
    if (typeof piece === 'object') last = piece;
  }
  return { ...last, text };
}

/**
 * Gemini has the roles user and model only; a system message goes as user, as the blueprint has it.
 * @param {ChatMessage[]} messages
 */
export function toGemini(messages) {
  return messages.map(({ role, content }) => {
    const parts = Array.isArray(content) ? content : [{ type: 'text', text: String(content ?? '') }];
    return { role: role === 'assistant' ? 'model' : 'user', parts: parts.map(({ text }) => ({ text: text ?? '' })) };
  });
}

/**
 * @param {any} value a string, our Result, or the blueprint's `{type, content}`
 * @returns {{text: string}} plain JSON
 */
function normalise(value) {
  const text = typeof value === 'string' ? value : value?.text ?? value?.content;
  if (typeof text !== 'string') throw coded('BadAnswer', 'The cloud client answered without `text`.', 'bad_answer');
  return typeof value === 'string' ? { text } : { ...JSON.parse(JSON.stringify(value)), text };
}
