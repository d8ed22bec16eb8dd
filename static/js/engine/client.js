/**
 * The engine as the Python worker sees it: JSON in, JSON out, and every failure an Error with name, message and phase.
 *
 * WebLLM's own worker client rejects with strings (which Pyodide never completes) and never notices a dead worker. Here:
 *  - death: the worker holds a Web Lock for life; this side waits for the same lock and gets it when the worker is gone, whether
 *    terminated, crashed or navigated away. The port's `close` event, where the browser has it, says the same.
 *  - silence: while calls are pending the worker is pinged. It is given up after `misses` pings in a row without a pong, counted in
 *    turns of this thread's own timer, so that neither a frozen page nor Python at work here is mistaken for a dead engine. A
 *    software adapter may hold the worker up for seconds: 30 s is the least that is fair.
 *  - a lost device: the worker lives, but only its end is sure to free the memory, so it counts as gone too (`onLost`).
 *  - then all pending calls reject with EngineDeadError (EngineMovedError where it was another tab's, DeviceLostError), phase 'worker', the listener is told once, and calls
 *    reject at once until `attach` brings the port of a new worker.
 */

/** @import {EngineFailure, ToClient} from './wire.js' */
import {EngineError, fromWire, toError, toWire} from './errors.js';
import {RelayPort} from './tabs.js';

/**
 * @typedef {object} Pending
 * @property {string} op
 * @property {(json: string) => void} resolve
 * @property {(error: EngineError) => void} reject
 * @property {((json: string) => void)|null} onEvent
 */

/** @typedef {{pingEveryMs?: number, misses?: number}} Patience */

/** What a stop of the caller's means to the worker, by operation. */
const STOPS = /** @type {Record<string, (args: any) => {op: string, args: object}>} */ ({
  chat: ({requestId}) => ({op: 'abort', args: {requestId}}),
  load: () => ({op: 'cancel-load', args: {}}),
});

export class EngineClient {
  /** @type {((json: string) => void)|null} told an EngineFailure as JSON, once a worker, when it is dead or silent */
  onDeath = null;
  /** @type {((json: string) => void)|null} the same when the graphics device was lost under a worker that lives */
  onLost = null;
  /** @type {((json: string) => void)|null} told a Status as JSON when another tab has done something about the model */
  onState = null;

  /** @type {MessagePort|RelayPort|null} */ #port = null;
  /** @type {EngineError|null} why calls cannot be made now */ #dead = null;
  /** @type {Map<number, Pending>} */ #pending = new Map();
  /** @type {AbortController} ends what belongs to the present worker */ #life = new AbortController();
  /** @type {ReturnType<typeof setInterval>|undefined} */ #timer;
  #shared = false;
  #next = 1;
  #unanswered = 0;

  /** @param {Patience} [patience] */
  constructor({pingEveryMs = 5000, misses = 6} = {}) {
    this.pingEveryMs = pingEveryMs;
    this.misses = misses;
  }

  /**
   * Use this worker from now on. Calls pending on the former one reject.
   * @param {MessagePort|RelayPort|null} given null for the worker of another tab @param {string} lockName
   */
  attach(given, lockName) {
    const port = given ?? new RelayPort(lockName);
    this.#end(dead('The local engine was started anew.'));
    this.#port = port;
    this.#shared = given === null;
    this.#dead = null;
    this.#life = new AbortController();
    const {signal} = this.#life;
    const receive = (/** @type {any} */ {data}) => this.#receive(data, lockName, signal);
    port.addEventListener('message', receive, {signal});
    port.addEventListener('messageerror', () => this.#die('sent a message that cannot be read'), {signal});
    port.addEventListener('close', () => this.#die('has ended'), {signal});
    port.start();
  }

  /**
   * @param {string} op see wire.js
   * @param {string|object|null} [argsJson]
   * @param {((json: string) => void)|null} [onEvent] told each EngineEvent as JSON
   * @param {AbortSignal|null} [signal] stops a chat or a load
   * @returns {Promise<string>} the result as JSON
   */
  async call(op, argsJson = null, onEvent = null, signal = null) {
    if (this.#dead || !this.#port) throw this.#dead ?? dead('The local engine has not been started.');
    const args = parse(argsJson);
    const id = this.#next++;
    /** @type {Promise<string>} */
    const answer = new Promise((resolve, reject) => this.#pending.set(id, {op, resolve, reject, onEvent}));
    this.#post({kind: 'call', id, op, args});
    this.#watch();
    const stop = STOPS[op]?.(args);
    if (signal && stop) onAbort(signal, () => this.call(stop.op, stop.args).catch(() => {}));
    return answer;
  }

  /** @param {object} message */
  #post(message) {
    try {
      this.#port?.postMessage(message);
    } catch (cause) {
      this.#die(`cannot be written to (${cause})`);
    }
  }

  /** @param {ToClient} message @param {string} lockName @param {AbortSignal} signal */
  #receive(message, lockName, signal) {
    this.#unanswered = 0; // any word of the worker's is a sign of life
    if (message.kind === 'hello') this.#waitForDeath(lockName, signal);
    else if (message.kind === 'lost') this.#over(fromWire(message.error), this.onLost);
    else if (message.kind === 'state') tell(this.onState, message.status);
    else if (message.kind !== 'pong') this.#settle(message);
  }

  /** @param {Extract<ToClient, {id: number}>} message */
  #settle(message) {
    const call = this.#pending.get(message.id);
    if (!call) return;
    if (message.kind === 'event') return tell(call.onEvent, message.event);
    this.#pending.delete(message.id);
    if (!this.#pending.size) this.#rest();
    if (message.kind === 'result') call.resolve(JSON.stringify(message.value ?? null));
    else call.reject(fromWire(message.error));
  }

  /** @param {string} lockName @param {AbortSignal} signal */
  #waitForDeath(lockName, signal) {
    // It rejects when another worker took over: then this one's death is of no interest. `shared`: a held lock that is not is an engine's.
    navigator.locks.request(lockName, {signal, mode: 'shared'}, () => this.#die('has ended')).catch(() => {});
  }

  /** Ping while something is under way. */
  #watch() {
    if (this.#timer !== undefined) return;
    this.#unanswered = 0;
    this.#timer = setInterval(() => {
      const silentS = Math.round((this.misses * this.pingEveryMs) / 1000);
      if (this.#unanswered >= this.misses) return this.#die(`has not answered for ${silentS} s`);
      this.#unanswered += 1;
      this.#post({kind: 'ping', n: this.#unanswered});
    }, this.pingEveryMs);
  }

  #rest() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** @param {string} how */
  #die(how) {
    const error = this.#shared
      ? new EngineError('EngineMovedError', `The local engine, which another tab had, ${how}: this tab goes on with one of its own.`, 'worker')
      : dead(`The local engine ${how}: it is being started anew, and the model must be loaded again.`);
    this.#over(error, this.onDeath);
  }

  /** @param {EngineError} error @param {((json: string) => void)|null} listener told once a worker */
  #over(error, listener) {
    if (this.#dead || !this.#port) return;
    this.#dead = error;
    this.#end(error);
    tell(listener, toWire(error, 'worker'));
  }

  /** @param {EngineError} error reject whatever is pending and let go of the worker */
  #end(error) {
    this.#rest();
    this.#life.abort();
    this.#port?.close();
    this.#port = null;
    const calls = [...this.#pending.values()];
    this.#pending.clear();
    for (const {reject} of calls) reject(error);
  }
}

/**
 * @param {MessagePort|null} port leading to the engine worker; null where that is another tab's
 * @param {string} lockName the Web Lock that worker holds
 * @param {Patience} [patience]
 * @returns {EngineClient}
 */
export function createEngineClient(port, lockName, patience) {
  const client = new EngineClient(patience);
  client.attach(port, lockName);
  return client;
}

/** @param {string} message @returns {EngineError} */
const dead = (message) => new EngineError('EngineDeadError', message, 'worker');

/** @param {string|object|null} args @returns {any} @throws {EngineError} of phase validate */
function parse(args) {
  if (typeof args !== 'string') return args ?? {};
  try {
    return args ? JSON.parse(args) : {};
  } catch (cause) {
    throw toError(cause, 'validate');
  }
}

/** @param {AbortSignal} signal @param {() => void} act at once when it is too late already */
function onAbort(signal, act) {
  if (signal.aborted) act();
  else signal.addEventListener('abort', act, {once: true});
}

/**
 * A listener's failure is its own: it must not end the stream of the others.
 * @param {((json: string) => void)|null} listener @param {object} what
 */
function tell(listener, what) {
  try {
    listener?.(JSON.stringify(what));
  } catch (cause) {
    console.warn('engine client: a listener failed', cause);
  }
}
