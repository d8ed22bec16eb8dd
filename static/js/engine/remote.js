/**
 * Models of another host, as WebLLM publishes them: a folder with mlc-chat-config.json and tensor-cache.json, and a library that may
 * lie elsewhere. No list states their files, so it is made from those two; what HYBR itself has built has a manifest.json with sums.
 *
 * A browser asks such a host only where its person has allowed it (the worker's policy is the server's, server/hosts.py). A model that
 * is whole in this browser is loaded from what was written down of it, without asking anybody.
 */

/** @import {ModelEntry, ModelFile} from './wire.js' */
import {EngineError, aborted} from './errors.js';
import {recorded, rootOf} from './store.js';

const CONFIG = 'mlc-chat-config.json';
const WEIGHTS = 'tensor-cache.json';
const MANIFEST = 'manifest.json';
const LIBRARY = 'model.wasm';
const MAGIC = '\0asm';

/**
 * What a look at an address finds.
 * @typedef {object} Inspected
 * @property {string} model @property {string|null} library @property {boolean} manifest whether it states every file's sha256
 * @property {number} bytes of what is known @property {number} context @property {string} quantisation @property {string} family
 * @property {string} [name] @property {string} [licence] @property {number} [vramBytes] @property {string[]} features
 */

/**
 * @param {ModelEntry} entry @param {string} origin @param {AbortSignal} signal
 * @returns {Promise<ModelEntry>} with its files; one of our own server's as it is
 * @throws {EngineError} AddressError where the host has no such model, NetworkError where it does not answer
 */
export async function described(entry, origin, signal) {
  const {id, base, remote} = entry;
  if (!remote || !base) return entry;
  const whole = (await recorded(id)).find((kept) => kept.base === base && !kept.partial && kept.urls.every(({path}) => path));
  if (whole) return {...entry, files: whole.urls.map(({cache: _, ...file}) => file), libraries: libraries(whole.urls)};
  const root = rootOf(base, origin);
  if (remote.manifest) {
    const files = filesOf(await json(root + MANIFEST, signal), root);
    return {...entry, files, libraries: libraries(files)};
  }
  const files = [...(await listed(root, await json(root + CONFIG, signal), signal)), {path: LIBRARY, url: String(remote.library), bytes: null, sha256: null}];
  return {...entry, files, libraries: {gpu: LIBRARY}};
}

/** @param {{path: string}[]} files @returns {ModelEntry['libraries']} */
function libraries(files) {
  const has = (/** @type {string} */ path) => (files.some((file) => file.path === path) ? path : undefined);
  return {gpu: has(LIBRARY), subgroups: has('model-subgroups.wasm'), software: has('model-software.wasm')};
}

/** @param {string} root @param {any} config @param {AbortSignal} signal @returns {Promise<ModelFile[]>} what WebLLM will read */
async function listed(root, config, signal) {
  const {records} = await json(root + WEIGHTS, signal);
  if (!Array.isArray(records) || !records.length) throw wrong(root + WEIGHTS, 'it lists no weights');
  const unknown = (/** @type {string} */ path) => ({path, bytes: null, sha256: null});
  const tokenizer = config.tokenizer_files.includes('tokenizer.json') ? 'tokenizer.json' : 'tokenizer.model';
  const shards = records.map(({dataPath, nbytes}) => {
    if (typeof dataPath !== 'string' || /(^\/|\.\.|:)/.test(dataPath) || !Number.isSafeInteger(nbytes) || nbytes <= 0)
      throw wrong(root + WEIGHTS, 'it names a file that is none');
    return {path: dataPath, bytes: nbytes, sha256: null};
  });
  return [unknown(CONFIG), unknown(WEIGHTS), unknown(tokenizer), ...shards];
}

/** @param {any} manifest @param {string} root @returns {ModelFile[]} */
function filesOf(manifest, root) {
  const files = manifest?.files;
  const whole = Array.isArray(files) && files.every(({path, bytes, sha256}) =>
    typeof path === 'string' && !/(^\/|\.\.|:)/.test(path) && Number.isSafeInteger(bytes) && /^[0-9a-f]{64}$/.test(sha256));
  if (!whole) throw wrong(root + MANIFEST, 'it does not list files with their sums');
  return files;
}

/**
 * Look whether a model lies there that WebLLM can load, without downloading it.
 * @param {{model: string, library?: string|null}} address @param {string} origin @param {AbortSignal} signal
 * @returns {Promise<Inspected>} @throws {EngineError} AddressError, NetworkError
 */
export async function inspect({model, library = null}, origin, signal) {
  const root = rootOf(model, origin);
  const config = await json(root + CONFIG, signal);
  if (!Array.isArray(config.tokenizer_files) || typeof config.context_window_size !== 'number' || !config.vocab_size)
    throw wrong(root + CONFIG, 'it is not the configuration of a chat model that WebLLM loads');
  const manifest = await json(root + MANIFEST, signal).then((found) => ({...found, files: filesOf(found, root)})).catch(() => null);
  /** @type {ModelFile[]} */
  const files = manifest?.files ?? (await listed(root, config, signal));
  const own = manifest && libraries(files).gpu;
  if (!library && !own) throw new EngineError('AddressError', 'This folder has no library of its own: give the address of its .wasm file too.', 'validate', {field: 'library'});
  await isLibrary(library ?? root + own, signal);
  const used = files.filter(({path}) => !/\.(br|gguf)$|^manifest/.test(path));
  return {
    model, library: own ? null : library, manifest: Boolean(own),
    bytes: used.reduce((total, {bytes}) => total + (bytes ?? 0), 0),
    context: config.context_window_size, quantisation: String(manifest?.quantisation ?? config.quantization ?? ''),
    family: String(manifest?.family ?? config.model_type ?? ''), features: manifest?.features ?? [],
    ...(manifest?.name ? {name: manifest.name} : {}), ...(manifest?.licence ? {licence: manifest.licence} : {}),
    ...(manifest?.vram_bytes ? {vramBytes: manifest.vram_bytes} : {}),
  };
}

/** @param {string} url @param {AbortSignal} signal @throws {EngineError} where it is no WebAssembly */
async function isLibrary(url, signal) {
  const answer = await ask(url, signal, {range: 'bytes=0-3'});
  const reader = answer.body?.getReader();
  const first = (await reader?.read())?.value ?? new Uint8Array();
  reader?.cancel().catch(() => {});
  if (String.fromCharCode(...first.slice(0, 4)) !== MAGIC) throw wrong(url, 'it is no WebAssembly library', 'library');
}

/** @param {string} url @param {AbortSignal} signal @returns {Promise<any>} */
async function json(url, signal) {
  const answer = await ask(url, signal);
  try {
    const found = await answer.json();
    if (typeof found === 'object' && found !== null) return found;
  } catch {
    // said below
  }
  throw wrong(url, 'it is no JSON');
}

/** @param {string} url @param {AbortSignal} signal @param {Record<string, string>} [headers] @returns {Promise<Response>} a good one */
async function ask(url, signal, headers = {}) {
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(url, {signal, headers, cache: 'no-cache', credentials: 'omit'});
  } catch (cause) {
    if (signal.aborted) throw aborted('download', 'The look at that address was stopped.');
    const why = cause instanceof Error ? cause.message : cause;
    throw new EngineError('NetworkError', `${new URL(url).host} could not be asked (${why}): is the address right, is the host allowed, and does it let other sites read (CORS)?`, 'download', {url});
  }
  if (answer.ok) return answer;
  throw wrong(url, `the host answered ${answer.status}`);
}

/** @param {string} url @param {string} what @param {string} [field] @returns {EngineError} */
const wrong = (url, what, field = 'model') => new EngineError('AddressError', `No model can be had from ${url}: ${what}.`, 'validate', {field, url});
