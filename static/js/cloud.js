/**
 * A caller's own cloud client, called from Python: `Hybrid.init(client)` leaves the client here, Python asks with `cloud-call`.
 * The client has `complete(messages, options)`, or the blueprint's `callApiWithRetry(history, apiKey, functions, options)`,
 * which speaks Gemini's schema, and answers whole. It gets an AbortSignal in `options.signal`; nothing is passed on after an abort.
 */

import { coded, toWire } from './errors.js';

/** @import {ChatMessage, CloudAnswer, CloudRequest} from './protocol.js' */

/** @typedef {{complete?: Function, callApiWithRetry?: Function}} Callable */
/** @typedef {Callable & {api?: Callable}} CloudClient */
/** @typedef {(messages: ChatMessage[], options: object) => Promise<any>} Ask */

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
    /** @type {CloudAnswer} */
    let answer;
    try {
      if (!this.#ask) throw coded('CloudUnavailableError', 'No cloud client was given to Hybrid.init().', 'cloud_unavailable');
      const value = await this.#ask(messages, { ...options, signal: call.signal });
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
    if (typeof holder?.complete === 'function') return async (messages, options) => holder.complete?.(messages, options);
    if (typeof holder?.callApiWithRetry === 'function') {
      return async (messages, options) => holder.callApiWithRetry?.(toGemini(messages), null, [], options);
    }
  }
  const message = 'Hybrid.init(cloudClient) needs a client with complete(messages, options) or callApiWithRetry(...); '
    + 'leave it out to use the server.';
  throw coded('CallerError', message, 'invalid_request', { field: 'cloudClient' });
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
