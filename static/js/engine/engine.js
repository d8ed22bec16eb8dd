/**
 * WebLLM, or llama.cpp in its place (wasm.js), as the rest of the page sees it: load, chat, abort, unload, one thing on the GPU at a time.
 *
 * Downloads run beside everything else; what touches the GPU (moving weights in, generating, unloading) goes through one queue.
 * A load that was cancelled while WebLLM moves weights cannot be interrupted there: the caller is answered at once, and the
 * queue lets nothing else begin until that load has ended and been unloaded again.
 *
 * A lost device is noticed through the device itself. WebLLM may then never settle what is under way, so each step on the GPU is
 * raced against the loss; afterwards the engine is thrown away and the next load makes a new one.
 */

/** @import {Gpu, Loaded, ModelEntry, Profile, ProgressEvent, ChatResult, Runtime, Status} from './wire.js' */
/** @import {ChatArgs, Ticket} from './chat.js' */
/** @import {Plan} from './store.js' */
/** @import {Wasm, WasmEngine} from './wasm.js' */
/** @import {MLCEngine} from '@mlc-ai/web-llm' */
import {preflight, processor} from '../preflight.js';
import {chat, unbegun} from './chat.js';
import {watchDevices} from './device.js';
import {download} from './download.js';
import {EngineError, aborted, toError} from './errors.js';
import {nameOf} from './kept.js';
import {Progress} from './progress.js';
import {described} from './remote.js';
import {dropIfDamaged, library, plan} from './store.js';
import {SKIPPED, Turns} from './turns.js';

/** Tokens, where the model list states no window. */
const CONTEXT = 2048;
/** ModelType.VLM of WebLLM's config: without it pictures are refused, whatever the model. */
const VLM = 2;

/** @typedef {{MLCEngine: typeof MLCEngine}} WebLLM the part of the package that is used */
/** @typedef {{id: string, wasm: boolean, control: AbortController, listeners: ((event: ProgressEvent) => void)[], done: Promise<Loaded>}} Loading */

export class Engine {
  /** @type {MLCEngine|WasmEngine|null} */ #engine = null;
  /** @type {Loaded|null} */ #loaded = null;
  /** @type {Loading|null} */ #loading = null;
  /** @type {Map<string, Ticket>} chats running or waiting, by requestId */ #chats = new Map();
  /** @type {string|null} */ #active = null;
  #gpu = new Turns();
  #lost = false;

  /**
   * @param {() => Promise<WebLLM>} webllm brings the package, when first needed
   * @param {(error: EngineError) => void} onLost the loaded model is gone
   * @param {() => Promise<Wasm>} [wllama] brings llama.cpp, of which nothing is fetched before
   * @param {string} [origin]
   */
  constructor(webllm, onLost, wllama, origin = location.origin) {
    this.webllm = webllm;
    this.wllama = wllama;
    this.onLost = onLost;
    this.origin = origin;
    this.devices = watchDevices((error) => this.#deviceLost(error));
  }

  /** @returns {Status} */
  status() {
    return {
      state: this.#loading ? 'loading' : this.#loaded ? 'ready' : this.#lost ? 'lost' : 'empty',
      model: this.#loaded?.model ?? null,
      loading: this.#loading?.id ?? null,
      profile: this.#loaded?.profile ?? null,
      gpu: this.#loaded?.gpu ?? null,
      threads: this.#loaded?.threads ?? null,
      active: this.#active,
      queued: this.#chats.size - (this.#active === null ? 0 : 1),
    };
  }

  /**
   * @param {{model: ModelEntry, profile?: Profile, runtime?: Runtime}} args
   * @param {(event: ProgressEvent) => void} onProgress
   * @returns {Promise<Loaded>}
   */
  async load({model, profile, runtime}, onProgress) {
    const wasm = runtime === 'wasm';
    const same = this.#loading;
    if (same && same.id === model.id && same.wasm === wasm && !same.control.signal.aborted) {
      same.listeners.push(onProgress);
      return same.done;
    }
    this.cancelLoad();
    const control = new AbortController();
    const listeners = [onProgress];
    const tell = (/** @type {ProgressEvent} */ event) => listeners.forEach((listener) => listener(event));
    const mine = {id: model.id, wasm, control, listeners, done: this.#load(model, wasm ? 'wasm' : profile, tell, control.signal)};
    this.#loading = mine;
    try {
      return await mine.done;
    } finally {
      if (this.#loading === mine) this.#loading = null;
    }
  }

  /** @param {string} id @param {Runtime} [runtime] @returns {boolean} whether that model is what is loaded, or being loaded, there */
  has(id, runtime) {
    const wasm = runtime === 'wasm';
    const {control, ...loading} = this.#loading ?? {control: null, id: '', wasm: false};
    if (control && !control.signal.aborted) return loading.id === id && loading.wasm === wasm;
    return this.#loaded?.model === id && (this.#loaded.profile === 'wasm') === wasm;
  }

  /** @returns {boolean} whether there was a load to cancel */
  cancelLoad() {
    this.#loading?.control.abort();
    return this.#loading !== null;
  }

  /**
   * @param {ModelEntry} entry
   * @param {Profile|undefined} forced
   * @param {(event: ProgressEvent) => void} onProgress
   * @param {AbortSignal} signal
   * @returns {Promise<Loaded>}
   */
  async #load(entry, forced, onProgress, signal) {
    const {gpu, profile} = forced === 'wasm' ? await probeProcessor() : await probe(entry, forced);
    const needed = plan(await described(entry, this.origin, signal), profile, this.origin);
    const present = this.#loaded;
    if (present && present.base === needed.base && present.profile === profile) return present;
    const progress = new Progress(needed.bytes, onProgress);
    const begun = performance.now();
    // The package is megabytes of script: fetched and parsed while the weights come.
    const [downloadedBytes, script] = await Promise.all([download(needed, progress, signal), this.#package(profile)]);
    const downloaded = performance.now();
    const enter = async () => {
      if (signal.aborted) return;
      await this.#enter(script, needed, progress, entry);
      if (signal.aborted) return this.#discard();
      this.#lost = false;
      this.#loaded = {
        model: entry.id, base: needed.base, profile, gpu, downloadedBytes,
        ...(this.#engine && 'threads' in this.#engine ? {threads: this.#engine.threads} : {}),
        downloadS: (downloaded - begun) / 1000, loadS: (performance.now() - downloaded) / 1000,
      };
    };
    await unlessStopped(signal, this.#gpu.take(enter));
    return /** @type {Loaded} */ (this.#loaded);
  }

  /** @param {Profile} profile @returns {Promise<WebLLM|Wasm>} @throws {EngineError} EngineScriptError */
  async #package(profile) {
    const bring = profile === 'wasm' ? this.wllama : this.webllm;
    try {
      if (!bring) throw new Error('this page has none for the processor');
      return await bring();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : cause;
      const says = navigator.onLine
        ? `The local engine's script did not load (${why}): reload the page.`
        : 'You are offline, and the program that runs models is not in this browser yet: load the model again when you are back online.';
      throw new EngineError('EngineScriptError', says, 'worker');
    }
  }

  /**
   * Move the downloaded model to where it is computed.
   * @param {WebLLM|Wasm} script @param {Plan} needed @param {Progress} progress @param {ModelEntry} entry
   */
  async #enter(script, needed, progress, entry) {
    await this.#discard();
    this.#engine = 'start' in script ? await this.#processor(script, needed, progress, entry) : await this.#graphics(script, needed, progress, entry);
  }

  /** @param {Wasm} script @param {Plan} needed @param {Progress} progress @param {ModelEntry} entry @returns {Promise<WasmEngine>} */
  async #processor(script, needed, progress, {context = CONTEXT, gguf}) {
    progress.engine({progress: 0, text: 'processor'});
    try {
      const weights = await library(needed);
      const manner = {context, sampling: gguf?.sampling, plain: gguf?.plain};
      const engine = await script.start(weights, manner, (error) => this.#engine === engine && this.#deviceLost(error));
      progress.engine({progress: 1, text: 'Finish'});
      return engine;
    } catch (cause) {
      throw await this.#blame(toError(cause, 'load'), needed);
    }
  }

  /** @param {WebLLM} script @param {Plan} needed @param {Progress} progress @param {ModelEntry} entry @returns {Promise<MLCEngine>} */
  async #graphics({MLCEngine}, needed, progress, {overrides, vision}) {
    // WebLLM would not cache a library whose URL says localhost; a blob of the verified bytes is the same everywhere.
    const lib = URL.createObjectURL(await library(needed));
    const more = {...(overrides ? {overrides} : {}), ...(vision ? {model_type: VLM} : {})};
    const record = {model: new URL(needed.base, this.origin).href, model_id: needed.id, model_lib: lib, ...more};
    const engine = new MLCEngine({appConfig: {model_list: [record]}, initProgressCallback: (report) => progress.engine(report)});
    try {
      await this.devices.unlessLost(engine.reload(needed.id));
    } catch (cause) {
      this.devices.release();
      throw await this.#blame(toError(cause, 'load'), needed);
    } finally {
      URL.revokeObjectURL(lib);
    }
    return engine;
  }

  /**
   * A load that failed for no reason of the device's: perhaps the browser's copy rotted. Damaged files go, so that the next load
   * fetches them again, and the person is told so.
   * @param {EngineError} error @param {Plan} needed @returns {Promise<EngineError>}
   */
  async #blame(error, needed) {
    this.#lost ||= error.name === 'DeviceLostError';
    if (error.name === 'DeviceLostError') return new EngineError(error.name, error.message, 'load', error.details);
    if (error.phase === 'probe') return error;
    const damaged = [];
    for (const item of needed.items) if (await dropIfDamaged(item)) damaged.push(item.path);
    if (!damaged.length) return error;
    const message = `This browser's copy of ${damaged.join(', ')} was damaged and has been dropped: load ${needed.id} again.`;
    return new EngineError('IntegrityError', message, 'load', {files: damaged, cause: error.message});
  }

  /**
   * @param {ChatArgs} args @param {(delta: string) => void} onDelta @returns {Promise<ChatResult>}
   */
  async chat(args, onDelta) {
    const {requestId} = args;
    if (!requestId || this.#chats.has(requestId)) {
      const wrong = requestId ? 'is under way already' : 'is missing';
      throw new EngineError('RequestIdError', `requestId ${wrong}: give each request its own.`, 'validate');
    }
    /** @type {Ticket} */
    const ticket = {arrived: performance.now(), stopped: false, started: false};
    this.#chats.set(requestId, ticket);
    try {
      return await this.#gpu.take(() => this.#generate(args, ticket, onDelta), () => ticket.stopped);
    } catch (cause) {
      if (cause === SKIPPED) return unbegun(ticket);
      throw cause;
    } finally {
      this.#chats.delete(requestId);
    }
  }

  /** @param {ChatArgs} args @param {Ticket} ticket @param {(delta: string) => void} onDelta @returns {Promise<ChatResult>} */
  async #generate(args, ticket, onDelta) {
    if (ticket.stopped) return unbegun(ticket);
    const engine = this.#engine;
    if (!engine) throw new EngineError('ModelNotLoadedError', 'No model is loaded in this browser: load one first.', 'validate');
    this.#active = args.requestId;
    ticket.started = true;
    try {
      return await this.devices.unlessLost(chat(/** @type {MLCEngine} */ (engine), this.#kept(args), ticket, onDelta));
    } finally {
      this.#active = null;
    }
  }

  /** @param {ChatArgs} args @returns {ChatArgs} with its session's own name; llama.cpp keeps none @throws {EngineError} SessionGoneError */
  #kept({journal, ...args}) {
    if (!journal || !this.#loaded) return args;
    if (this.#loaded.profile !== 'wasm') return {...args, journal: {...journal, session: nameOf(this.#loaded.base, journal.session)}};
    if (journal.prefix) throw new EngineError('SessionGoneError', 'The processor keeps no generations.', 'prefill');
    return args;
  }

  /** @param {string} requestId @returns {boolean} whether there was such a chat */
  abort(requestId) {
    const ticket = this.#chats.get(requestId);
    if (!ticket) return false;
    ticket.stopped = true;
    if (ticket.started) this.#engine?.interruptGenerate();
    this.#gpu.nudge();
    return true;
  }

  /** @returns {Promise<string|null>} the id that was loaded */
  async unload() {
    this.cancelLoad();
    const was = this.#loaded?.model ?? null;
    for (const id of this.#chats.keys()) this.abort(id);
    await this.#gpu.take(() => this.#discard());
    this.#lost = false;
    return was;
  }

  /** Free the GPU of the present engine. */
  async #discard() {
    const engine = this.#engine;
    this.#engine = null;
    this.#loaded = null;
    this.devices.release();
    if (engine) await engine.unload();
  }

  /** @param {EngineError} error */
  #deviceLost(error) {
    const had = this.#loaded !== null;
    this.#engine = null;
    this.#loaded = null;
    this.#lost = true;
    if (had) this.onLost(error);
  }
}

/**
 * @template T
 * @param {AbortSignal} signal @param {Promise<T>} work @returns {Promise<T>} rejects at once when stopped, though `work` goes on
 */
async function unlessStopped(signal, work) {
  const stop = () => aborted('load', 'The load was stopped; the downloaded files are kept.');
  if (signal.aborted) throw stop();
  /** @type {Promise<never>} */
  const stopped = new Promise((_, reject) => signal.addEventListener('abort', () => reject(stop()), {once: true}));
  const value = await Promise.race([work, stopped]);
  if (signal.aborted) throw stop();
  return value;
}

/** @returns {Promise<{gpu: null, profile: Profile}>} @throws {EngineError} of phase probe where WebAssembly is too old for llama.cpp */
async function probeProcessor() {
  const {wasm, wasmReason} = processor();
  if (wasm === 'no') throw new EngineError('WebGPUNotAvailableError', String(wasmReason), 'probe');
  return {gpu: null, profile: 'wasm'};
}

/**
 * @param {ModelEntry} entry @param {Profile|undefined} forced
 * @returns {Promise<{gpu: Gpu, profile: Profile}>} @throws {EngineError} of phase probe, before a byte is downloaded
 */
async function probe(entry, forced) {
  const found = await preflight();
  if (found.webgpu === 'no') throw new EngineError('WebGPUNotAvailableError', `${found.reason} ${found.remedy}`, 'probe');
  const half = entry.features?.includes('shader-f16') || /q\df16/.test(entry.quantisation ?? entry.id);
  if (half && !found.features?.includes('shader-f16'))
    throw new EngineError(
      'ShaderF16SupportError',
      `${entry.id} computes in half precision, which this graphics adapter cannot (no shader-f16): choose an f32 model.`,
      'probe',
    );
  return {gpu: /** @type {Gpu} */ (found.adapter), profile: forced ?? found.profile ?? 'gpu'};
}
