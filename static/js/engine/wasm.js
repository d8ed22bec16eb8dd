/**
 * llama.cpp in WebAssembly (wllama) with the manners of WebLLM's engine, as far as this folder uses them: for browsers without WebGPU.
 *
 * wllama runs llama.cpp in a worker of its own, made from a blob inside ours, so both end together. Nothing is fetched by wllama but
 * its wasm, from our origin: the weights come from our verified store, and its road to a content network is closed (`setCompat`).
 * There are two builds of it: one with 64-bit memory, and a slower one without, for browsers that have none (Safari).
 * The template is the file's own, or where the catalogue drops the checkpoint's default system turn our ChatML without one: the same
 * text as the page's WebGPU models and the house use.
 * llama.cpp itself holds back unfinished characters and what may become a stop sequence.
 */

/** @import {ChatCompletionChunk} from '@mlc-ai/web-llm' */
/** @import {Wllama} from '../../vendor/wllama/index.js' */
import {processor} from '../preflight.js';
import {EngineError} from './errors.js';

/** @typedef {{Wllama: typeof Wllama}} Script the part of the package that is used */
/** @typedef {Record<string, any>} Chunk of llama.cpp's: OpenAI's, with `timings` */
/** @typedef {{temperature: number, top_p: number}} Sampling */
/** @typedef {{context: number, sampling?: Sampling, plain?: boolean}} Manner window in tokens, the model's own sampling, and our template */
/** @typedef {(weights: Blob, manner: Manner, onCrash: (error: EngineError) => void) => Promise<WasmEngine>} Start */
/** @typedef {{start: Start}} Wasm what engine.js is given */

/** The wasm beside the script, from our own server. */
const vendored = (/** @type {string} */ path) => new URL(`../../vendor/${path}`, import.meta.url).href;
const WASM = vendored('wllama/wllama.wasm');
const OLD = {worker: vendored('wllama-compat/wllama.js'), wasm: vendored('wllama-compat/wllama.wasm')};

/** Plain ChatML; `message['content']` is a string by the time it comes here. */
const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** What a model does for which nobody says anything, and llama.cpp's own habits switched off. */
const SAMPLING = {temperature: 0.7, top_p: 0.95};
const PLAIN = {top_k: 0, min_p: 0, repeat_penalty: 1};
/** llama.cpp's seeds have 32 bits, and all ones means "any". */
const SEEDS = 2 ** 32 - 1;
const MOST_THREADS = 8;
const BATCH = 128; // of the prompt: a stop is heard between two batches

/**
 * Threads to compute with: both cores of the smallest machines (a second one nearly doubles the rate), fewer than all of any other, so
 * that the page stays quick, half of a large one's (the other half is hyper-threads); one where the page is not isolated.
 * @param {{cores?: number, isolated?: boolean}} [device] @returns {number}
 */
export function threads({cores = navigator.hardwareConcurrency || 1, isolated = globalThis.crossOriginIsolated === true} = {}) {
  if (!isolated) return 1;
  if (cores <= 2) return cores;
  return Math.min(MOST_THREADS, cores <= 4 ? cores - 1 : Math.ceil(cores / 2));
}

/** @param {Script} script @returns {Wasm} */
export const wasm = (script) => ({start: (weights, manner, onCrash) => startWasm(script, weights, manner, onCrash)});

/**
 * Load a model.
 * @param {Script} script @param {Blob} weights a GGUF file @param {Manner} manner
 * @param {(error: EngineError) => void} onCrash told once if llama.cpp dies with the model
 * @returns {Promise<WasmEngine>}
 */
async function startWasm(script, weights, {context, sampling, plain}, onCrash) {
  /** @type {(error: EngineError) => void} */
  let fail = () => {};
  /** @type {Promise<never>} */
  const crashed = new Promise((_, reject) => {
    fail = reject;
  });
  crashed.catch(() => {}); // whoever races it sees it; nobody need be racing
  const wllama = new script.Wllama({default: WASM}, {suppressNativeLog: true, logger: loggerOf((why) => fail(crash(why)))});
  wllama.setCompat(processor().memory64 ? null : OLD);
  const load = wllama.loadModel([weights], {
    n_gpu_layers: 0, n_ctx: context, n_batch: BATCH, n_parallel: 1, n_threads: threads(), ctx_shift: false,
    jinja: true, ...(plain ? {chat_template: CHATML} : {}), reasoning_format: 'none',
  });
  try {
    await Promise.race([load, crashed]);
    // wllama counts a file that llama.cpp refused as loaded, with no vocabulary.
    if (!wllama.getLoadedContextInfo().n_vocab) throw new EngineError('ModelLoadError', 'llama.cpp could not read this GGUF file.', 'load');
  } catch (cause) {
    wllama.exit().catch(() => {});
    throw told(cause, 'load');
  }
  crashed.catch(onCrash);
  return new WasmEngine(wllama, crashed, fail, sampling);
}

export class WasmEngine {
  #wllama;
  #crashed;
  #crash;
  #text = '';
  /** @type {AbortController|null} */ #stop = null;

  /** @param {Wllama} wllama with a model @param {Promise<never>} crashed @param {(error: EngineError) => void} crash @param {Sampling} [sampling] */
  constructor(wllama, crashed, crash, sampling = SAMPLING) {
    this.#wllama = wllama;
    this.#crashed = crashed;
    this.#crash = crash;
    this.chat = {completions: {create: async (/** @type {any} */ request) => this.#generate(bodyOf(request, sampling))}};
  }

  /** @returns {number} that it computes with */
  get threads() {
    return this.#wllama.getNumThreads();
  }

  /** Stop the generation under way; it ends with finish reason `abort`. */
  interruptGenerate() {
    this.#stop?.abort();
  }

  /** @returns {Promise<string>} all of the last answer */
  async getMessage() {
    return this.#text;
  }

  /** Free the model and its worker. */
  async unload() {
    await Promise.race([this.#wllama.exit(), this.#crashed]).catch(() => {});
  }

  /** @param {Record<string, unknown>} body @returns {AsyncGenerator<ChatCompletionChunk>} as WebLLM gives them, the last with the usage */
  async *#generate(body) {
    const stop = new AbortController();
    this.#stop = stop;
    this.#text = '';
    /** @type {Chunk} */
    let timings = {};
    try {
      const chunks = await this.#wllama.createChatCompletion({...body, stream: true, abortSignal: stop.signal});
      const each = chunks[Symbol.asyncIterator]();
      for (let next = await this.#next(each); !next.done; next = await this.#next(each)) {
        timings = next.value.timings ?? timings;
        this.#text += next.value.choices?.[0]?.delta?.content ?? '';
        if (next.value.choices?.length) yield /** @type {any} */ ({choices: next.value.choices});
      }
    } catch (cause) {
      if (!stop.signal.aborted || !(cause instanceof Error) || cause.name !== 'AbortError') throw this.#failed(cause);
      yield /** @type {any} */ ({choices: [{index: 0, delta: {}, finish_reason: 'abort'}]});
    } finally {
      this.#stop = null;
    }
    yield /** @type {any} */ ({choices: [], usage: usageOf(timings)});
  }

  /** @template T @param {AsyncIterator<T>} each @returns {Promise<IteratorResult<T>>} the next, unless llama.cpp dies over it */
  #next(each) {
    return Promise.race([each.next(), this.#crashed]);
  }

  /** @param {unknown} cause @returns {EngineError} */
  #failed(cause) {
    const error = told(cause, 'decode');
    if (error.name === 'EngineDeadError') this.#crash(error);
    return error;
  }
}

/**
 * WebLLM's request as llama.cpp's.
 * @param {Record<string, any>} request @param {Sampling} sampling @returns {Record<string, unknown>}
 * @throws {EngineError} of phase validate for what this runtime cannot do
 */
export function bodyOf({messages, tools, tool_choice: choice, response_format: format, seed, ...rest}, sampling = SAMPLING) {
  if (tools?.length && choice !== 'none')
    throw new EngineError('UnsupportedModelIdError', 'tools: this model cannot call tools; leave them out.', 'validate');
  return {
    ...PLAIN,
    ...sampling,
    ...rest,
    ...(seed === undefined ? {} : {seed: ((Number(seed) % SEEDS) + SEEDS) % SEEDS}),
    ...(format ? formatOf(format) : {}),
    messages: messages.map(textual),
    timings_per_token: true,
  };
}

/** @param {{role: string, content: unknown}} message @returns {{role: string, content: string}} */
function textual({role, content}) {
  const parts = Array.isArray(content) ? content : [{type: 'text', text: content ?? ''}];
  if (parts.some(({type}) => type !== 'text'))
    throw new EngineError('UserMessageContentErrorForNonVLM', 'messages: this model reads text only.', 'validate');
  return {role, content: parts.map(({text}) => text).join('')};
}

/** @param {Record<string, any>} format as format.js makes it for WebLLM @returns {Record<string, unknown>} llama.cpp's fields for it */
function formatOf(format) {
  if (format.type === 'grammar') return {grammar: format.grammar};
  return {response_format: typeof format.schema === 'string' ? {...format, schema: JSON.parse(format.schema)} : format};
}

/** @param {Chunk} timings of llama.cpp @returns {object} usage as WebLLM states it; what came from the cache was part of the prompt */
function usageOf({prompt_n: read = 0, cache_n: kept = 0, predicted_n: made = 0, prompt_per_second: prefill, predicted_per_second: decode}) {
  const prompt = Math.max(0, read) + Math.max(0, kept);
  const extra = {prefill_tokens_per_s: prefill ?? NaN, decode_tokens_per_s: decode ?? NaN};
  return {prompt_tokens: prompt, completion_tokens: made, total_tokens: prompt + made, extra};
}

/**
 * Its errors are ours to tell, so none of its lines is an error of the page's; an event from its worker is that worker's end.
 * @param {(why: string) => void} onDeath
 */
const loggerOf = (onDeath) => ({
  debug: () => {},
  log: () => {},
  warn: (/** @type {unknown[]} */ ...what) => console.debug('wllama:', ...what),
  error: (/** @type {unknown[]} */ ...what) => {
    if (what[0] instanceof Event) onDeath(/** @type {ErrorEvent} */ (what[0]).message || 'its worker failed');
    else console.debug('wllama:', ...what);
  },
});

/** @param {string} why @returns {EngineError} */
const crash = (why) =>
  new EngineError('EngineDeadError', `The model on the processor died (${why}), most likely out of memory: load it again.`, 'worker');

/** @param {unknown} cause @param {'load'|'decode'} phase @returns {EngineError} wllama's error by the names that the page knows */
function told(cause, phase) {
  if (cause instanceof EngineError) return cause;
  const {name, message} = cause instanceof Error ? cause : {name: 'Error', message: String(cause)};
  if (name === 'WllamaRuntimeError' || cause instanceof WebAssembly.RuntimeError) return crash(message);
  if (/context size|context window|kv.?cache/i.test(message))
    return new EngineError('ContextWindowSizeExceededError', `The conversation exceeds the model's context window: ${message}`, 'prefill');
  return new EngineError(name, message, phase);
}
