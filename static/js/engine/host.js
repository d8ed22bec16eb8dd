/**
 * The engine worker's side of the port: operations in, one answer each out.
 *
 * Holds the worker's Web Lock for life before it says hello: the client, waiting for the same lock, gets it when this worker is
 * gone, however it went. Pings are answered from the message handler itself, whatever the GPU is doing.
 */

/** @import {ToWorker, ToClient} from './wire.js' */
import {Engine} from './engine.js';
import {EngineError, toWire} from './errors.js';
import {cached, drop} from './store.js';

/** @import {Wasm} from './wasm.js' */
/** @import {WebLLM} from './engine.js' */
/** @typedef {(args: any, emit: (event: any) => void) => unknown} Operation */

/**
 * @param {MessagePort} port
 * @param {string} lockName
 * @param {() => Promise<WebLLM>} webllm
 * @param {() => Promise<Wasm>} [wllama]
 * @returns {Promise<void>} once the client has been greeted
 */
export async function serve(port, lockName, webllm, wllama) {
  /** @param {ToClient} message */
  const send = (message) => port.postMessage(message);
  const engine = new Engine(webllm, (error) => send({kind: 'lost', error: toWire(error, 'worker')}), wllama);
  const operations = operationsOf(engine);
  await holdForLife(lockName);
  port.onmessage = ({data}) => receive(/** @type {ToWorker} */ (data));
  send({kind: 'hello'});

  /** @param {ToWorker} message */
  function receive(message) {
    if (message.kind === 'ping') send({kind: 'pong', n: message.n});
    else if (message.kind === 'call') answer(message);
    else console.warn('engine: unknown message', message);
  }

  /** @param {{id: number, op: string, args: any}} call */
  async function answer({id, op, args}) {
    try {
      const operation = operations[op];
      if (!operation) throw new EngineError('UnknownOperationError', `The engine has no operation "${op}".`, 'validate');
      send({kind: 'result', id, value: await operation(args ?? {}, (event) => send({kind: 'event', id, event}))});
    } catch (cause) {
      send({kind: 'error', id, error: toWire(cause, op === 'load' ? 'load' : 'worker')});
    }
  }
}

/** @param {Engine} engine @returns {Record<string, Operation|undefined>} */
function operationsOf(engine) {
  return {
    status: () => engine.status(),
    ping: () => ({now: performance.now()}),
    load: (args, emit) => engine.load(args, emit),
    'cancel-load': () => ({cancelled: engine.cancelLoad()}),
    chat: (args, emit) => engine.chat(args, (delta) => emit({type: 'delta', delta})),
    abort: ({requestId}) => ({aborted: engine.abort(requestId)}),
    unload: async () => ({unloaded: await engine.unload()}),
    cached: async ({ids, runtime}) => ({models: await cached(ids, runtime)}),
    delete: async ({id}) => {
      if (engine.status().loading === id) engine.cancelLoad();
      return {id, bytes: await drop(id)};
    },
  };
}

/** @param {string} name @returns {Promise<void>} when the lock is held */
const holdForLife = (name) =>
  new Promise((resolve, reject) => {
    navigator.locks.request(name, () => (resolve(), new Promise(() => {}))).catch(reject);
  });
