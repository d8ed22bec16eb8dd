/**
 * The engine worker's side of its clients' ports: operations in, one answer each out.
 *
 * Holds the worker's Web Lock for life before it says hello: the clients, waiting for the same lock, get it when this worker is
 * gone, however it went. Pings are answered from the message handler itself, whatever the GPU is doing.
 *
 * The first client is this tab's Python worker; those of other tabs come through the door (tabs.js). All share one engine and its one
 * queue, in the order of their asking. Each hears what becomes of the model by another's doing (`state`). A model that is answering
 * another tab is not taken away: that is refused, with what to do about it.
 */

/** @import {ChatArgs} from './chat.js' */
/** @import {Line} from './tabs.js' */
/** @import {ModelEntry, ProgressEvent, Status, ToWorker, ToClient} from './wire.js' */
/** @import {WebLLM} from './engine.js' */
/** @import {Wasm} from './wasm.js' */
import {Engine} from './engine.js';
import {EngineError, toWire} from './errors.js';
import {inspect} from './remote.js';
import {cached, drop, partial} from './store.js';
import {openDoor} from './tabs.js';
import {verify} from './verify.js';

/** @typedef {(args: any, emit: (event: any) => void) => unknown} Operation */

/** A check of tens of gigabytes, with a repair, may take this long; a look at another host's address must not. */
const PATIENCE_MS = 3_600_000;
const LOOK_MS = 60_000;

/**
 * @param {MessagePort} port
 * @param {string} lockName
 * @param {() => Promise<WebLLM>} webllm
 * @param {() => Promise<Wasm>} [wllama]
 * @returns {Promise<void>} once the first client has been greeted
 */
export async function serve(port, lockName, webllm, wllama) {
  /** @type {Set<Client>} */
  const clients = new Set();
  const engine = new Engine(webllm, (error) => clients.forEach((client) => client.send({kind: 'lost', error: toWire(error, 'worker')})), wllama);
  openDoor(lockName, (line, name) => {
    const client = new Client(line, engine, clients, name);
    client.send({kind: 'hello'});
    return () => client.leave();
  });
  await holdForLife(lockName);
  new Client(port, engine, clients, '').send({kind: 'hello'});
}

class Client {
  #line;
  #engine;
  #others;
  #name;
  /** @type {Set<string>} its chats, by the names that the engine knows */ #chats = new Set();

  /** @param {Line} line @param {Engine} engine @param {Set<Client>} clients it joins them @param {string} name put before its requests' ids */
  constructor(line, engine, clients, name) {
    this.#line = line;
    this.#engine = engine;
    this.#others = clients;
    this.#name = name;
    clients.add(this);
    line.onmessage = ({data}) => this.#receive(/** @type {ToWorker} */ (data));
  }

  /** @param {ToClient} message */
  send(message) {
    this.#line.postMessage(message);
  }

  /** Its tab is gone: nobody hears its answers any more. */
  leave() {
    this.#others.delete(this);
    for (const id of this.#chats) this.#engine.abort(id);
  }

  /** @param {ToWorker} message */
  #receive(message) {
    if (message.kind === 'ping') this.send({kind: 'pong', n: message.n});
    else if (message.kind === 'call') void this.#answer(message);
    else console.warn('engine: unknown message', message);
  }

  /** @param {{id: number, op: string, args: any}} call */
  async #answer({id, op, args}) {
    try {
      const operation = this.#operations[op];
      if (!operation) throw new EngineError('UnknownOperationError', `The engine has no operation "${op}".`, 'validate');
      this.send({kind: 'result', id, value: await operation(args ?? {}, (event) => this.send({kind: 'event', id, event}))});
    } catch (cause) {
      this.send({kind: 'error', id, error: toWire(cause, op === 'load' ? 'load' : 'worker')});
    }
  }

  /** @type {Record<string, Operation|undefined>} */
  #operations = {
    status: () => this.#engine.status(),
    ping: () => ({now: performance.now()}),
    load: (args, emit) => this.#load(args, emit),
    'cancel-load': () => ({cancelled: this.#engine.cancelLoad()}),
    chat: (args, emit) => this.#chat(args, (delta) => emit({type: 'delta', delta})),
    abort: ({requestId}) => ({aborted: this.#engine.abort(this.#name + requestId)}),
    unload: ({unless, runtime}) => this.#unload(unless, runtime),
    cached: async ({ids, runtime}) => ({models: await cached(ids, runtime), partial: await partial(runtime)}),
    verify: (args, emit) => verify(args, this.#engine.origin, AbortSignal.timeout(PATIENCE_MS), emit),
    inspect: (args) => inspect(args, this.#engine.origin, AbortSignal.timeout(LOOK_MS)),
    delete: async ({id}) => {
      if (this.#engine.status().loading === id) this.#engine.cancelLoad();
      return {id, bytes: await drop(id)};
    },
  };

  /** @param {{model: ModelEntry, runtime?: any}} args @param {(event: ProgressEvent) => void} emit */
  async #load(args, emit) {
    if (!this.#engine.has(args.model.id, args.runtime)) this.#mayTakeAway();
    const loading = this.#engine.load(args, (event) => {
      emit(event);
      this.#tell({progress: event});
    });
    this.#tell();
    try {
      return await loading;
    } finally {
      this.#tell();
    }
  }

  /** @param {string} [unless] a model that may stay @param {any} [runtime] where it is in this one */
  async #unload(unless, runtime) {
    if (unless && this.#engine.has(unless, runtime)) return {unloaded: null};
    this.#mayTakeAway();
    try {
      return {unloaded: await this.#engine.unload()};
    } finally {
      this.#tell();
    }
  }

  /** @param {ChatArgs} args @param {(delta: string) => void} onDelta */
  async #chat(args, onDelta) {
    const requestId = args.requestId && this.#name + args.requestId;
    const mine = requestId && !this.#chats.has(requestId); // one that is under way already is refused, and stays in the set
    if (mine) this.#chats.add(requestId);
    try {
      return await this.#engine.chat({...args, requestId}, onDelta);
    } finally {
      if (mine) this.#chats.delete(requestId);
    }
  }

  /** @throws {EngineError} EngineBusyError while another tab is being answered */
  #mayTakeAway() {
    const model = this.#engine.status().model;
    if ([...this.#others].some((other) => other !== this && other.#chats.size))
      throw new EngineError('EngineBusyError', `Another tab is being answered by ${model}: wait for the end of that answer, or stop it there.`, 'validate');
  }

  /** @param {{progress?: ProgressEvent}} [more] tells the other tabs how it stands with the model */
  #tell(more = {}) {
    const status = {...this.#engine.status(), ...more};
    for (const other of this.#others) if (other !== this) other.send({kind: 'state', status});
  }
}

/** @param {string} name @returns {Promise<void>} when the lock is held */
const holdForLife = (name) =>
  new Promise((resolve, reject) => {
    navigator.locks.request(name, () => (resolve(), new Promise(() => {}))).catch(reject);
  });
