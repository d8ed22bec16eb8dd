/**
 * The two workers and the channel between them. Each start of the engine makes a new worker, a new MessageChannel and a
 * new lock name; the Python worker is told with `engine-port`. The Python worker is not restarted, for the conversation lives
 * in it; but its death is noticed, because the lock that it held is free.
 */

import { coded } from './errors.js';
import { strings } from './strings.js';

/** @import {CodedError} from './errors.js' */
/** @import {BootConfig, FromEngine, FromPython, ToEngine, ToPython} from './protocol.js' */

export class Workers {
  #config;
  #onMessage;
  #onFatal;
  /** @type {Worker|null} */
  #python = null;
  /** @type {Worker|null} */
  #engine = null;
  #pythonSpoke = false;
  #life = `hybr-python-${crypto.randomUUID()}`;

  /**
   * @param {BootConfig} config
   * @param {(message: FromPython) => void} onMessage
   * @param {(error: CodedError) => void} onFatal
   */
  constructor(config, onMessage, onFatal) {
    this.#config = config;
    this.#onMessage = onMessage;
    this.#onFatal = onFatal;
  }

  start() {
    this.#python = new Worker(this.#script('python.worker.js'), { type: 'module', name: 'python' });
    this.#python.addEventListener('message', ({ data }) => this.#fromPython(data));
    this.#python.addEventListener('error', (event) => this.#pythonError(event));
    const { port, lock } = this.#startEngine();
    this.post({ kind: 'boot', config: this.#config, port, lock, life: this.#life }, [port]);
  }

  /** A new engine for one that is dead or hangs. */
  restartEngine() {
    this.#engine?.terminate();
    const { port, lock } = this.#startEngine();
    this.post({ kind: 'engine-port', port, lock }, [port]);
  }

  /**
   * @param {ToPython} message
   * @param {Transferable[]} [transfer]
   */
  post(message, transfer = []) {
    this.#python?.postMessage(message, transfer);
  }

  /**
   * A worker's policy is that of its script, so in the local-only document it comes from where scripts carry the strict one.
   * @param {string} name below js/ @returns {URL}
   */
  #script(name) {
    const { place, assets, origin } = this.#config;
    return place === 'local' ? new URL(`/local${assets}/js/${name}`, origin) : new URL(`./${name}`, import.meta.url);
  }

  /** @returns {{port: MessagePort, lock: string}} the Python worker's end */
  #startEngine() {
    const { port1, port2 } = new MessageChannel();
    const lock = `hybr-engine-${crypto.randomUUID()}`;
    this.#engine = new Worker(this.#script('engine/engine.worker.js'), { type: 'module', name: 'engine' });
    // A dead engine is the engine client's to notice (it lost its lock) and Python's to answer; here it is only named.
    this.#engine.addEventListener('error', (event) => event.message && console.warn(`engine worker: ${event.message}`));
    this.#engine.addEventListener('message', ({ data }) => this.#fromEngine(data));
    /** @type {ToEngine} */
    const boot = { kind: 'boot', config: { origin: this.#config.origin, assets: this.#config.assets }, port: port1, lock };
    this.#engine.postMessage(boot, [port1]);
    return { port: port2, lock };
  }

  /** @param {FromPython|string} data */
  #fromPython(data) {
    this.#pythonSpoke = true;
    const message = /** @type {FromPython} */ (typeof data === 'string' ? JSON.parse(data) : data);
    if (message.kind === 'alive') void navigator.locks.request(this.#life, () => this.#pythonDied());
    else this.#onMessage(message);
  }

  /** @param {FromEngine|undefined} data */
  #fromEngine(data) {
    if (data?.kind === 'fatal') console.warn(`engine worker: ${data.error.message}`);
  }

  #pythonDied() {
    this.#onFatal(coded('PythonDied', strings.pythonDied, 'python_died', { remedy: strings.pythonDiedRemedy }));
  }

  /** @param {ErrorEvent} event */
  #pythonError(event) {
    if (this.#pythonSpoke) return console.warn(`python worker: ${event.message}`);
    const detail = event.message ? ` (${event.message})` : '';
    this.#onFatal(coded('BootFailed', strings.pythonFailed + detail, 'python_worker', { remedy: strings.pythonFailedRemedy }));
  }
}
