/**
 * The two workers and the channel between them. Each start of the engine makes a new worker, a new MessageChannel and a
 * new lock name; the Python worker is told with `engine-port`. Where another tab has the engine (tabs.js), Python is told the name
 * of its lock only, and goes there by itself. The Python worker is not restarted, for the conversation lives in it; but its death is
 * noticed, because the lock that it held is free.
 */

import { coded } from './errors.js';
import { readStored } from './stored.js';
import { strings } from './strings.js';
import { Tabs } from './tabs.js';

/** @import {CodedError} from './errors.js' */
/** @import {BootConfig, FromEngine, FromPython, ToEngine, ToPython} from './protocol.js' */

export class Workers {
  #config;
  #onMessage;
  #onFatal;
  /** @type {Worker|null} */
  #python = null;
  /** @type {Worker|null} null where the engine is another tab's */
  #engine = null;
  #lock = '';
  #turn = 0;
  #tabs;
  /** @type {{message: ToPython, transfer: Transferable[]}[]|null} what is said before the engine is found */
  #early = [];
  #pythonSpoke = false;
  /** the engine that may ask other hosts could not be had */
  #closed = false;
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
    // The engine's own client in this tab notices that it is gone, and asks for another.
    this.#tabs = new Tabs(config.place, (lock) => lock === this.#lock && this.#engine?.terminate());
  }

  async start() {
    this.#python = new Worker(this.#script('python.worker.js'), { type: 'module', name: 'python' });
    this.#python.addEventListener('message', ({ data }) => this.#fromPython(data));
    this.#python.addEventListener('error', (event) => this.#pythonError(event));
    const engine = await this.#findEngine(null);
    const early = this.#early ?? [];
    this.#early = null;
    this.post({ kind: 'boot', config: this.#config, ...engine, life: this.#life }, engine.port ? [engine.port] : []);
    for (const { message, transfer } of early) this.post(message, transfer);
  }

  /** A new engine for one that is dead or hangs. */
  async restartEngine() {
    const turn = ++this.#turn;
    this.#engine?.terminate();
    this.#engine = null;
    this.#tabs.complain(this.#lock);
    const engine = await this.#findEngine(this.#lock, () => turn === this.#turn);
    if (engine.lock) this.post({ kind: 'engine-port', ...engine }, engine.port ? [engine.port] : []);
  }

  /**
   * @param {string|null} gone @param {() => boolean} [wanted] false once a newer restart has taken over
   * @returns {Promise<{port: MessagePort|null, lock: string}>} without a lock where it is not wanted any more
   */
  async #findEngine(gone, wanted = () => true) {
    const lock = await this.#tabs.find(gone);
    if (!wanted()) return { port: null, lock: '' };
    const engine = lock === null ? this.#startEngine() : { port: null, lock };
    this.#lock = engine.lock;
    return engine;
  }

  /**
   * @param {ToPython} message
   * @param {Transferable[]} [transfer]
   */
  post(message, transfer = []) {
    if (this.#early) this.#early.push({ message, transfer });
    else this.#python?.postMessage(message, transfer);
  }

  /**
   * A worker's policy is that of its script, so in the local-only document it comes from where scripts carry the strict one.
   * @param {string} name below js/ @returns {URL}
   */
  #script(name) {
    const { place, assets, origin } = this.#config;
    return place === 'local' ? new URL(`/local${assets}/js/${name}`, origin) : new URL(`./${name}`, import.meta.url);
  }

  /**
   * The engine may ask the hosts that the person allowed, and nobody else, by the policy of the script that the server serves for that
   * (server/hosts.py). Whoever allowed none gets the script that every cache keeps.
   * @returns {URL}
   */
  #engineScript() {
    const { place, assets, origin } = this.#config;
    const hosts = /** @type {{model_hosts?: unknown}|undefined} */ (readStored().preferences)?.model_hosts;
    const open = place === 'main' && !this.#closed && Array.isArray(hosts) && hosts.length > 0;
    return open ? new URL(`/remote${assets}/js/engine/engine.worker.js`, origin) : this.#script('engine/engine.worker.js');
  }

  /**
   * Its script could not be had. The one for other hosts is the server's alone to give: without it, the models that are here still run.
   * @param {Worker} engine
   */
  #unfetched(engine) {
    if (engine !== this.#engine || this.#closed || !this.#engineScript().pathname.startsWith('/remote/')) return;
    this.#closed = true;
    void this.restartEngine();
  }

  /** @returns {{port: MessagePort, lock: string}} the Python worker's end */
  #startEngine() {
    const { port1, port2 } = new MessageChannel();
    const lock = this.#tabs.name();
    const engine = (this.#engine = new Worker(this.#engineScript(), { type: 'module', name: 'engine' }));
    // A dead engine is the engine client's to notice (it lost its lock) and Python's to answer; here it is only named.
    engine.addEventListener('error', (event) => (event.message ? console.warn(`engine worker: ${event.message}`) : this.#unfetched(engine)));
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
