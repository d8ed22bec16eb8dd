/**
 * A model's files in this browser: the Cache API caches and keys that WebLLM 0.2.86 reads, and who is whole in them.
 *
 * WebLLM asks cache `webllm/config` for mlc-chat-config.json, `webllm/wasm` for the library and `webllm/model` for the rest, each by
 * the absolute URL `<origin><base>resolve/main/<path>`. What we put there carries the sha256 it was checked against in a header:
 * an entry without it, or with another one, was not ours and counts as missing. A Cache API put is atomic, so there are no halves.
 *
 * `hybr/models` holds one small record a model: `/models/<id>/` -> its files, `partial` until the last of them is in.
 *
 * A model of another host (remote.js) comes with no sums: what was fetched first is what a later copy is compared with.
 */

/** @import {CachedModel, ModelEntry, ModelFile, PartialModel, Profile, Runtime} from './wire.js' */
import {EngineError} from './errors.js';
import {dropPieces, piecesOf} from './pieces.js';

const CONFIG = 'webllm/config';
const LIBRARY = 'webllm/wasm';
const WEIGHTS = 'webllm/model';
const GGUF = 'hybr/gguf'; // the same model for the WebAssembly runtime
const RECORDS = 'hybr/models';
const SHA256 = 'x-hybr-sha256';

/** Read by other tools or other versions of WebLLM, never by this one: not downloaded. */
const UNREAD = new Set(['manifest.json', 'ndarray-cache.json', 'tokenizer_config.json']);

/** @typedef {ModelFile & {url: string, cache: string}} Item one file to have, with its place */
/** @typedef {{id: string, base: string, profile: Profile, bytes: number, partial?: boolean, urls: (Item & {path: string})[]}} Kept a record */
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
    .map((file) => ({...file, url: file.url ?? rootOf(base, origin) + file.path, cache: placeOf(file.path)}));
  return {id, base, profile, library: urlOf(items, library), items, bytes: sum(items)};
}

/** @param {ModelEntry} entry @param {string} base @param {string} origin @returns {Plan} one file: llama.cpp needs no other */
function wasmPlan({id, gguf}, base, origin) {
  if (!gguf)
    throw new EngineError('ModelIncompleteError', `${id} runs on WebGPU only: there is no GGUF file of it for the processor.`, 'download', {model: id});
  const url = rootOf(base, origin) + gguf.path;
  return {id, base, profile: 'wasm', library: url, items: [{...gguf, url, cache: GGUF}], bytes: sum([gguf])};
}

/** @param {string} base of a model, here or at another host @param {string} origin @returns {string} where WebLLM looks for its files */
export function rootOf(base, origin) {
  const address = new URL(base.endsWith('/') ? base : `${base}/`, origin).href;
  return /\/resolve\/[^/]+\/$/.test(address) ? address : `${address}resolve/main/`;
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

/** @param {{bytes: number|null}[]} items @returns {number} of those whose size is known */
export const sum = (items) => items.reduce((total, {bytes}) => total + (bytes ?? 0), 0);

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
  const headers = (await (await open(item.cache)).match(item.url))?.headers;
  const sha256 = headers?.get(SHA256);
  if (!headers || !sha256 || (item.sha256 !== null && sha256 !== item.sha256)) return false;
  return item.bytes === null || Number(headers.get('content-length')) === item.bytes;
}

/**
 * Keep a verified body.
 * @param {Item} item @param {Uint8Array<ArrayBuffer>} body
 * @returns {Promise<void>}
 */
export async function put(item, body) {
  const headers = {[SHA256]: item.sha256 ?? '', 'content-length': String(body.length), 'content-type': typeOf(item.path)};
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

/** @param {Plan} plan @param {boolean} [partial] @returns {Promise<void>} write down what is here, or, in part, what is to come */
export async function record({id, base, profile, items}, partial = false) {
  const urls = items.map(({url, cache, path, bytes, sha256}) => ({url, cache, path, bytes, sha256}));
  const kept = {id, base, profile, bytes: sum(items), urls, ...(partial ? {partial} : {})};
  await (await open(RECORDS)).put(recordUrl(id, profile), Response.json(kept));
}

/** @param {string} [id] @returns {Promise<Kept[]>} what is written down of that model, or of all */
export async function recorded(id) {
  const records = await open(RECORDS);
  /** @type {Kept[]} */
  const found = [];
  for (const key of await records.keys()) {
    const one = await (await records.match(key))?.json();
    if (one && (id === undefined || one.id === id)) found.push(one);
  }
  return found;
}

/** @param {string} id @param {Profile} [profile] @returns {string} */
const recordUrl = (id, profile) => `${location.origin}/models/${encodeURIComponent(id)}/${profile === 'wasm' ? '?runtime=wasm' : ''}`;

/**
 * @param {string[]} [ids] only these @param {Runtime} [runtime] only what this one reads
 * @returns {Promise<CachedModel[]>} models of which every file is still here
 */
export async function cached(ids, runtime) {
  /** @type {CachedModel[]} */
  const whole = [];
  for (const {id, base, profile, bytes, urls, partial} of await recorded()) {
    if (partial || !runs(profile, runtime) || (ids && !ids.includes(id))) continue;
    if (await allHere(urls)) whole.push({id, base, profile, bytes});
  }
  return whole;
}

/** @param {Profile} profile @param {Runtime} [runtime] @returns {boolean} whether that one reads it */
const runs = (profile, runtime) => !runtime || (profile === 'wasm') === (runtime === 'wasm');

/** @param {Runtime} [runtime] @returns {Promise<PartialModel[]>} models whose download was begun and is not whole, with what is here of them */
export async function partial(runtime) {
  /** @type {PartialModel[]} */
  const begun = [];
  for (const one of await recorded()) {
    if (!one.partial || !runs(one.profile, runtime)) continue;
    let have = 0;
    for (const item of one.urls) have += (await has(item)) ? item.bytes ?? 0 : await piecesOf(item);
    if (have) begun.push({id: one.id, profile: one.profile, bytes: one.bytes, have});
  }
  return begun;
}

/** @param {{url: string, cache: string}[]} urls @returns {Promise<boolean>} browsers may evict behind our back */
async function allHere(urls) {
  for (const {url, cache} of urls) if (!(await (await open(cache)).match(url))) return false;
  return true;
}

/**
 * Drop a model's files, or only those that `keep` does not need and that are not of its revision. What another model uses too stays.
 * @param {string} id @param {Plan} [keep]
 * @returns {Promise<number>} bytes freed
 */
export async function drop(id, keep) {
  const [mine, others] = await urlsOf(id);
  const prefix = `${location.origin}/models/${encodeURIComponent(id)}/`;
  const root = keep && new URL(keep.base, location.origin).href;
  const stays = new Set([...others, ...(keep?.items ?? []).map(({url}) => url)]);
  let bytes = 0;
  for (const name of [CONFIG, LIBRARY, WEIGHTS, GGUF]) {
    const cache = await open(name);
    for (const {url} of await cache.keys()) {
      if (!(url.startsWith(prefix) || mine.has(url)) || stays.has(url) || (root && url.startsWith(root))) continue;
      bytes += Number((await cache.match(url))?.headers.get('content-length') ?? 0);
      await cache.delete(url);
    }
  }
  if (keep) return bytes;
  for (const url of [prefix, ...mine]) await dropPieces(url);
  for (const profile of /** @type {Profile[]} */ (['gpu', 'wasm'])) await (await open(RECORDS)).delete(recordUrl(id, profile));
  return bytes;
}

/** @param {string} id @returns {Promise<[Set<string>, Set<string>]>} addresses of that model's files, and of all others' */
async function urlsOf(id) {
  /** @type {[Set<string>, Set<string>]} */
  const [mine, others] = [new Set(), new Set()];
  for (const {id: whose, urls} of await recorded()) for (const {url} of urls) (whose === id ? mine : others).add(url);
  return [mine, others];
}

/** @param {Item} item @returns {Promise<boolean>} drop it if its bytes are no longer what was stored, or gone; true if so */
export async function dropIfDamaged(item) {
  const cache = await open(item.cache);
  const found = await cache.match(item.url);
  const wanted = item.sha256 ?? found?.headers.get(SHA256);
  if (found && (await digest(new Uint8Array(await found.arrayBuffer()))) === wanted) return false;
  await cache.delete(item.url);
  return true;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<string>} sha256 in hex */
export async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
