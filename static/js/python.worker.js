/**
 * Python's worker: Pyodide, the orchestrator, then Panel.
 *
 * The orchestrator (core.zip, standard library only) comes first and answers before Panel is even imported: `ready core`. Panel's
 * archive is fetched meanwhile and imported after it; `ready ui` when its views are on the screen. A failure before `ready core`
 * is `fatal`, with the remedy; a failure of Panel's leaves a working chat, so it is shown where Panel would stand and nowhere else.
 *
 * What Python sees of this worker is `host`: `post(json)`, `delta(id, delta, provider, segment)`, `engine`, `origin`, `assets`.
 * What this worker calls in Python: `hybr.webapp.page.boot(host, config)`, `page.receive(json)` for each later message of the
 * shell, `hybr.webapp.ui.app.start(host, context)` and on what that returns `receive(json)` for each `panel` message.
 */

import { loadPyodide } from '../vendor/pyodide/pyodide.mjs';
import { createEngineClient } from './engine/client.js';

/** @import {PyodideAPI} from 'pyodide' */
/** @import {BootConfig, FromPython, ToPython, WireError} from './protocol.js' */

const APP = '/app';

/** @param {FromPython} message */
const post = (message) => self.postMessage(message);

/** @param {string} step a key of words.steps @param {number|null} fraction */
const status = (step, fraction) => post({ kind: 'status', phase: 'python', step, fraction });

/** What failed, in words for a person, and what they can do. */
class BootError extends Error {
  /** @param {string} message @param {string} code @param {string} remedy @param {unknown} [cause] */
  constructor(message, code, remedy, cause) {
    super(message, { cause });
    this.name = 'BootFailed';
    this.code = code;
    this.remedy = remedy;
  }
}

const RELOAD = 'Reload the page; if this stays, stop HYBR, run `hybr page build` and start it again.';

/**
 * Asks for a file of the bundle at once, so that it travels while something else is done.
 * @param {string} path below the bundle's root
 * @returns {() => Promise<ArrayBuffer>} waits for it; @throws {BootError}
 */
function fetched(path) {
  const answer = fetch(new URL(`../${path}`, import.meta.url)).then(
    (response) => (response.ok ? response.arrayBuffer() : Promise.reject(new Error(`HTTP ${response.status}`))),
  );
  answer.catch(() => {}); // whoever waits for it reports it
  return () =>
    answer.catch((cause) => {
      const remedy = `Check that the HYBR server is running, then reload. ${RELOAD}`;
      throw new BootError(`A part of the page (${path}) could not be loaded: ${cause.message}.`, 'bundle_unreachable', remedy, cause);
    });
}

/** @returns {Promise<PyodideAPI>} @throws {BootError} */
async function startPython() {
  try {
    return await loadPyodide({ indexURL: new URL('../vendor/pyodide/', import.meta.url).href });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const remedy = 'Check that the HYBR server is running and that this browser is up to date (it needs WebAssembly), then reload.';
    throw new BootError(`Python could not be started in this page: ${why}`, 'python_failed', remedy, cause);
  }
}

/**
 * @param {PyodideAPI} python
 * @param {string} name of a module of ours @returns {any} @throws {BootError}
 */
function imported(python, name) {
  try {
    return python.pyimport(name);
  } catch (cause) {
    throw new BootError(`A part of the page's Python (${name}) does not start: ${lastLine(cause)}`, 'python_import_failed', RELOAD, cause);
  }
}

/** @param {unknown} error @returns {string} a Python traceback's last line, or the message */
const lastLine = (error) => (error instanceof Error ? error.message : String(error)).trim().split('\n').at(-1) ?? '';

/** @param {unknown} error @returns {WireError} */
function wire(error) {
  if (error instanceof BootError) return { name: error.name, message: error.message, code: error.code, remedy: error.remedy };
  return { name: 'BootFailed', message: `The page could not start: ${lastLine(error)}`, code: 'boot_failed', remedy: RELOAD };
}

/** The page's Python side, from boot on. */
class Side {
  /** @type {any} hybr.webapp.page, once it answers */ #page = null;
  /** @type {any} the Panel app, once it runs */ #panel = null;
  /** @type {ToPython[]} what came before */ #waiting = [];
  #engine;
  #dead = false;
  /** @returns {number} bytes of Python's memory */
  #heap = () => 0;

  /** @param {Extract<ToPython, {kind: 'boot'}>} message */
  constructor({ config, port, lock }) {
    this.#engine = createEngineClient(port, lock);
    void this.#boot(config);
  }

  /** @param {ToPython} message */
  receive(message) {
    if (message.kind === 'engine-port') this.#engine.attach(message.port, message.lock);
    else if (message.kind === 'panel') this.#fromPanel(message);
    else if (this.#page) this.#call(() => this.#page.receive(JSON.stringify(this.#weighed(message))));
    else this.#waiting.push(message);
  }

  /**
   * Python's own memory is known here alone.
   * @param {ToPython} message
   */
  #weighed(message) {
    return message.kind === 'memory' ? { ...message, python: this.#heap() } : message;
  }

  /** @param {Extract<ToPython, {kind: 'panel'}>} message */
  #fromPanel(message) {
    this.#call(() => this.#panel?.receive(JSON.stringify(message)));
    if (message.op === 'rendered') post({ kind: 'ready', stage: 'ui' });
  }

  /** @param {BootConfig} config */
  async #boot(config) {
    const core = fetched('py/core.zip');
    const panel = fetched('py/panel.zip');
    try {
      status('python', null); // how far its download is nobody tells
      const python = await startPython();
      this.#heap = () => Reflect.get(python, '_module')?.HEAPU8?.byteLength ?? 0;
      status('orchestrator', 0.7);
      this.#mount(python, await core());
      if (config.query.faults) await this.#lab(python, config.origin);
      const host = this.#host(config);
      await this.#core(python, host, config);
      post({ kind: 'ready', stage: 'core' });
      await this.#ui(python, host, await panel());
    } catch (error) {
      console.error(error);
      post(this.#page ? { kind: 'panel', op: 'failed', error: wire(error) } : { kind: 'fatal', error: wire(error) });
    }
  }

  /**
   * The fault lab, where a test's server has it; anywhere else `?faults=` changes nothing.
   * @param {PyodideAPI} python @param {string} origin
   */
  async #lab(python, origin) {
    const answer = await fetch(`${origin}/faults.zip`).catch(() => null);
    if (answer?.ok) this.#mount(python, await answer.arrayBuffer());
  }

  /** @param {PyodideAPI} python @param {ArrayBuffer} archive */
  #mount(python, archive) {
    python.unpackArchive(archive, 'zip', { extractDir: APP });
    python.runPython(`import importlib, sys\nif '${APP}' not in sys.path: sys.path.insert(0, '${APP}')\nimportlib.invalidate_caches()`);
  }

  /** @param {BootConfig} config What Python is given of this worker. */
  #host(config) {
    return {
      origin: config.origin,
      assets: config.assets,
      engine: this.#engine,
      post: (/** @type {string} */ json) => self.postMessage(json),
      delta: (/** @type {string} */ id, /** @type {string} */ delta, /** @type {any} */ provider, /** @type {number} */ segment) =>
        post({ kind: 'view', op: { type: 'delta', id, delta, provider, segment } }),
    };
  }

  /** @param {PyodideAPI} python @param {object} host @param {BootConfig} config */
  async #core(python, host, config) {
    const page = imported(python, 'hybr.webapp.page');
    try {
      await page.boot(host, JSON.stringify(config));
    } catch (cause) {
      throw new BootError(`The orchestrator does not start: ${lastLine(cause)}`, 'orchestrator_failed', RELOAD, cause);
    }
    this.#page = page;
    for (const message of this.#waiting.splice(0)) this.receive(message);
  }

  /** @param {PyodideAPI} python @param {object} host @param {ArrayBuffer} archive */
  async #ui(python, host, archive) {
    post({ kind: 'panel', op: 'prepare' }); // its JavaScript can load while Python imports
    this.#mount(python, archive);
    const app = imported(python, 'hybr.webapp.ui.app');
    try {
      this.#panel = await app.start(host, this.#page.context());
    } catch (cause) {
      throw new BootError(`The models and settings cannot be shown: ${lastLine(cause)}`, 'panel_failed', RELOAD, cause);
    }
  }

  /** @param {() => unknown} work one call into Python; the interpreter's own death is told once, any other failure is logged */
  #call(work) {
    try {
      work();
    } catch (error) {
      console.error(error);
      if (this.#dead || !/fatally failed/.test(String(error))) return;
      this.#dead = true;
      const message = 'The page\'s Python has stopped and cannot go on.';
      post({ kind: 'fatal', error: { name: 'PythonDied', message, code: 'python_died', remedy: 'Reload the page; your settings are kept.' } });
    }
  }
}

/**
 * Holds the lock until this worker is gone: whoever else gets it knows.
 * @param {string} name
 */
function holdForLife(name) {
  return navigator.locks.request(name, () => {
    post({ kind: 'alive' });
    return new Promise(() => {});
  });
}

/** @type {Side|null} */
let side = null;

self.addEventListener('message', ({ data }) => {
  const message = /** @type {ToPython} */ (data);
  if (message.kind === 'boot' && !side) {
    side = new Side(message);
    void holdForLife(message.life);
  } else side?.receive(message);
});
