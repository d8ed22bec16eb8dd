/**
 * A model's files in this browser: the Cache API caches and keys that WebLLM 0.2.86 reads, and who is whole in them.
 *
 * WebLLM asks cache `webllm/config` for mlc-chat-config.json, `webllm/wasm` for the library and `webllm/model` for the rest, each by
 * the absolute URL `<origin><base>resolve/main/<path>`. What we put there carries the sha256 it was checked against in a header:
 * an entry without it, or with another one, was not ours and counts as missing. A Cache API put is atomic, so there are no halves.
 *
 * `hybr/models` holds one small record a model, written when its last file is in: `/models/<id>/` -> what was stored.
 */

/** @import {CachedModel, ModelEntry, ModelFile, Profile, Runtime} from './wire.js' */
import {EngineError} from './errors.js';
import {dropPieces} from './pieces.js';

const CONFIG = 'webllm/config';
const LIBRARY = 'webllm/wasm';
const WEIGHTS = 'webllm/model';
const GGUF = 'hybr/gguf'; // the same model for the WebAssembly runtime
const RECORDS = 'hybr/models';
const SHA256 = 'x-hybr-sha256';

/** Read by other tools or other versions of WebLLM, never by this one: not downloaded. */
const UNREAD = new Set(['manifest.json', 'ndarray-cache.json', 'tokenizer_config.json']);

/** @typedef {ModelFile & {url: string, cache: string}} Item one file to have, with its place */
/** @typedef {{id: string, base: string, profile: Profile, library: string, items: Item[], bytes: number}} Plan everything one load needs */

/**
 * What a load of `entry` needs.
 * @param {ModelEntry} entry @param {Profile} profile @param {string} origin
 * @returns {Plan}
 * @throws {EngineError} ModelNotBuiltError while there are no artifacts, ModelIncompleteError when the entry names no library
 */
export function plan(entry, profile, origin) {
  const {id, base} = entry;
  if (!base || (entry.state && entry.state !== 'built'))
    throw new EngineError('ModelNotBuiltError', notBuilt(entry), 'download', {model: id, state: entry.state ?? 'missing'});
  if (profile === 'wasm') return wasmPlan(entry, base, origin);
  const library = entry.libraries[profile] ?? entry.libraries.gpu;
  const names = new Set(entry.files.map((file) => file.path));
  if (!library || !names.has(library))
    throw new EngineError(
      'ModelIncompleteError',
      `The entry of ${id} names no library for this adapter (${profile}): build it again with "hybr models build ${id}".`,
      'download',
      {model: id},
    );
  const items = entry.files
    .filter(({path}) => (path.endsWith('.wasm') ? path === library : !UNREAD.has(path) && !/\.(br|gguf)$/.test(path)))
    .map((file) => ({...file, url: `${origin}${base}resolve/main/${file.path}`, cache: placeOf(file.path)}));
  return {id, base, profile, library: urlOf(items, library), items, bytes: sum(items)};
}

/** @param {ModelEntry} entry @param {string} base @param {string} origin @returns {Plan} one file: llama.cpp needs no other */
function wasmPlan({id, gguf}, base, origin) {
  if (!gguf)
    throw new EngineError('ModelIncompleteError', `${id} runs on WebGPU only: there is no GGUF file of it for the processor.`, 'download', {model: id});
  const url = `${origin}${base}resolve/main/${gguf.path}`;
  return {id, base, profile: 'wasm', library: url, items: [{...gguf, url, cache: GGUF}], bytes: gguf.bytes};
}

/** @param {ModelEntry} entry @returns {string} */
const notBuilt = ({id, state}) =>
  state === 'building'
    ? `${id} is still being built; load it when the model list says it is there.`
    : `${id} has not been built here (${state ?? 'missing'}): run "hybr models build ${id}" on the server.`;

/** @param {string} path @returns {string} */
const placeOf = (path) => (path.endsWith('.wasm') ? LIBRARY : path === 'mlc-chat-config.json' ? CONFIG : WEIGHTS);

/** @param {Item[]} items @param {string} path @returns {string} */
const urlOf = (items, path) => items.find((item) => item.path === path)?.url ?? '';

/** @param {{bytes: number}[]} items @returns {number} */
export const sum = (items) => items.reduce((total, {bytes}) => total + bytes, 0);

/** @param {string} name @returns {Promise<Cache>} @throws {EngineError} StorageError where the browser keeps nothing */
async function open(name) {
  try {
    return await caches.open(name);
  } catch (cause) {
    throw new EngineError(
      'StorageError',
      `This browser keeps no files for this page (${cause}): allow site data for this address, or leave the private window.`,
      'download',
    );
  }
}

/** @param {Item} item @returns {Promise<boolean>} whether it is here, verified and whole */
export async function has(item) {
  const found = await (await open(item.cache)).match(item.url);
  return found?.headers.get(SHA256) === item.sha256 && Number(found.headers.get('content-length')) === item.bytes;
}

/**
 * Keep a verified body.
 * @param {Item} item @param {Uint8Array<ArrayBuffer>} body
 * @returns {Promise<void>}
 */
export async function put(item, body) {
  const headers = {[SHA256]: item.sha256, 'content-length': String(item.bytes), 'content-type': typeOf(item.path)};
  await (await open(item.cache)).put(item.url, new Response(body, {headers}));
}

/** @param {string} path @returns {string} */
const typeOf = (path) =>
  path.endsWith('.json') ? 'application/json' : path.endsWith('.wasm') ? 'application/wasm' : 'application/octet-stream';

/** @param {Plan} needed @returns {Promise<Blob>} the library's bytes; on the processor those of the weights */
export async function library(needed) {
  const found = await (await open(needed.profile === 'wasm' ? GGUF : LIBRARY)).match(needed.library);
  if (!found) throw new EngineError('StorageError', `The browser dropped files of ${needed.id} from its storage: load it again.`, 'load');
  return found.blob();
}

/** @param {Plan} done @returns {Promise<void>} write down that all of it is here */
export async function record({id, base, profile, items, bytes}) {
  const urls = items.map(({url, cache}) => ({url, cache}));
  await (await open(RECORDS)).put(recordUrl(id, profile), Response.json({id, base, profile, bytes, urls}));
}

/** @param {string} id @param {Profile} [profile] @returns {string} */
const recordUrl = (id, profile) => `${location.origin}/models/${encodeURIComponent(id)}/${profile === 'wasm' ? '?runtime=wasm' : ''}`;

/**
 * @param {string[]} [ids] only these @param {Runtime} [runtime] only what this one reads
 * @returns {Promise<CachedModel[]>} models of which every file is still here
 */
export async function cached(ids, runtime) {
  const records = await open(RECORDS);
  /** @type {CachedModel[]} */
  const whole = [];
  for (const key of await records.keys()) {
    const {id, base, profile, bytes, urls} = await (await records.match(key))?.json();
    if (runtime && (profile === 'wasm') !== (runtime === 'wasm')) continue;
    if (!ids || ids.includes(id)) if (await allHere(urls)) whole.push({id, base, profile, bytes});
  }
  return whole;
}

/** @param {{url: string, cache: string}[]} urls @returns {Promise<boolean>} browsers may evict behind our back */
async function allHere(urls) {
  for (const {url, cache} of urls) if (!(await (await open(cache)).match(url))) return false;
  return true;
}

/**
 * Drop a model's files, or only those of its other revisions.
 * @param {string} id @param {string} [keep] base of the revision to keep
 * @returns {Promise<number>} bytes freed
 */
export async function drop(id, keep) {
  const prefix = `${location.origin}/models/${encodeURIComponent(id)}/`;
  let bytes = 0;
  for (const name of [CONFIG, LIBRARY, WEIGHTS, GGUF]) {
    const cache = await open(name);
    for (const {url} of await cache.keys()) {
      if (!url.startsWith(prefix) || (keep && url.startsWith(location.origin + keep))) continue;
      bytes += Number((await cache.match(url))?.headers.get('content-length') ?? 0);
      await cache.delete(url);
    }
  }
  if (!keep) await dropPieces(prefix);
  if (!keep) for (const profile of /** @type {Profile[]} */ (['gpu', 'wasm'])) await (await open(RECORDS)).delete(recordUrl(id, profile));
  return bytes;
}

/** @param {Item} item @returns {Promise<boolean>} drop it if its bytes are no longer what was stored; true if so */
export async function dropIfDamaged(item) {
  const cache = await open(item.cache);
  const found = await cache.match(item.url);
  if (found && (await digest(new Uint8Array(await found.arrayBuffer()))) === item.sha256) return false;
  await cache.delete(item.url);
  return true;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<string>} sha256 in hex */
export async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
