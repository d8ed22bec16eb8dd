/**
 * Bring a model's files into the browser: checked, resumable, stoppable.
 *
 * Each file is read whole, compared with the size and sha256 that the model list states, and only then put into the cache WebLLM
 * reads. So whatever happens, a file there is a good one: a stopped or failed download goes on where it was, file by file, and within
 * a long file (a GGUF is one) piece by piece.
 * The network is asked again with a growing pause; a wrong file is not, because the same bytes would come again.
 */

/** @import {Item, Plan} from './store.js' */
/** @import {Progress} from './progress.js' */
import {EngineError, aborted} from './errors.js';
import {full, missingFile, unreachable, unstorable, wrong} from './failures.js';
import {Pieces} from './pieces.js';
import {digest, drop, has, put, record, sum} from './store.js';

/** Files at a time: enough to hide latency, few enough for memory (a file is held whole while it is checked). */
const LANES = 3;
const PAUSES_MS = [500, 1000, 2000, 4000, 8000];

/**
 * Have all files of `needed` in the caches.
 * @param {Plan} needed
 * @param {Progress} progress
 * @param {AbortSignal} signal
 * @param {number[]} [pauses] ms before each new try of the network
 * @returns {Promise<number>} bytes that had to be downloaded
 * @throws {EngineError} AbortError, IntegrityError, QuotaExceededError, StorageError, ModelFileMissingError, NetworkError
 */
export async function download(needed, progress, signal, pauses = PAUSES_MS) {
  const missing = await missingOf(needed.items, signal);
  const bytes = sum(missing);
  progress.skip(needed.bytes - bytes);
  if (missing.length) {
    await drop(needed.id, needed); // another revision's files would never be read again: make room first
    await ensureRoom(needed.id, bytes);
    await record(needed, true);
    let left = bytes;
    await inLanes(missing, signal, async (item, stop) => {
      const known = item.bytes ?? 0;
      const body = await bring(item, progress, stop, pauses);
      await keep(needed.id, item, body, left);
      left -= known;
    });
  }
  await record(needed);
  return bytes;
}

/** @param {Item[]} items @param {AbortSignal} signal @returns {Promise<Item[]>} those not in the cache */
async function missingOf(items, signal) {
  const missing = [];
  for (const item of items) {
    stopIf(signal);
    if (!(await has(item))) missing.push(item);
  }
  return missing;
}

/**
 * A few at a time; the first failure stops the others, and is the one that is told.
 * @param {Item[]} items @param {AbortSignal} signal @param {(item: Item, stop: AbortSignal) => Promise<void>} work
 */
async function inLanes(items, signal, work) {
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const queue = [...items];
  /** @type {unknown} */
  let first;
  const lane = async () => {
    for (let item = queue.shift(); item && !failed.signal.aborted; item = queue.shift()) {
      try {
        await work(item, stop);
      } catch (cause) {
        if (!failed.signal.aborted) first = cause;
        failed.abort();
      }
    }
  };
  await Promise.all(Array.from({length: Math.min(LANES, items.length)}, lane));
  stopIf(signal);
  if (failed.signal.aborted) throw first;
}

/**
 * @param {Item} item @param {Progress} progress @param {AbortSignal} signal @param {number[]} pauses
 * @returns {Promise<Uint8Array<ArrayBuffer>>} verified
 */
async function bring(item, progress, signal, pauses) {
  const pieces = new Pieces(item);
  const body = await persistently(item, signal, pauses, () => (item.bytes === null ? receiveAll : receive)(item, pieces, progress, signal));
  await pieces.drop();
  const actual = await digest(body);
  stopIf(signal);
  item.bytes ??= body.length; // another host states neither: from now on this is what the file is
  item.sha256 ??= actual;
  if (actual === item.sha256) return body;
  throw wrong(item, `its sha256 is ${actual}, the model list states ${item.sha256}`, {expected: item.sha256, actual});
}

/** @param {string} id @param {Item} item @param {Uint8Array<ArrayBuffer>} body @param {number} left bytes of the model not stored yet */
async function keep(id, item, body, left) {
  try {
    await put(item, body);
  } catch (cause) {
    throw await storageFailure(id, item, left, cause);
  }
}

/**
 * Ask again while it is the network that fails.
 * @template T
 * @param {Item} item @param {AbortSignal} signal @param {number[]} pauses @param {() => Promise<T>} attempt
 * @returns {Promise<T>}
 */
async function persistently(item, signal, pauses, attempt) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await attempt();
    } catch (cause) {
      stopIf(signal);
      if (cause instanceof EngineError) throw cause;
      const pause = pauses[tries];
      if (pause === undefined) throw unreachable(item, cause, tries + 1);
      await sleep(pause * (0.75 + Math.random() / 2), signal);
    }
  }
}

/** Something the network may do better next time; anything else is an EngineError at once. */
class Transient extends Error {}

/**
 * @param {Item} item @param {Pieces} pieces @param {Progress} progress @param {AbortSignal} signal
 * @returns {Promise<Uint8Array<ArrayBuffer>>} exactly `item.bytes` bytes
 */
async function receive(item, pieces, progress, signal) {
  const whole = Number(item.bytes);
  const body = new Uint8Array(whole);
  let length = await pieces.restore(body);
  if (length === whole) return body;
  const answer = await ask(item, signal, length ? {range: `bytes=${length}-`} : {});
  if (answer.status !== 206) length = 0; // a server without ranges begins anew
  progress.add(length);
  try {
    for await (const part of parts(answer)) {
      if (length + part.length > whole) throw wrong(item, `it is longer than the ${whole} bytes the model list states`);
      body.set(part, length);
      length += part.length;
      progress.add(part.length);
      await pieces.keep(body, length);
    }
    if (length < whole) throw wrong(item, `it ends after ${length} of ${whole} bytes`);
    return body;
  } catch (cause) {
    progress.add(-length);
    throw cause;
  }
}

/**
 * A small file of another host, of which no size is stated.
 * @param {Item} item @param {Pieces} _ @param {Progress} progress @param {AbortSignal} signal
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function receiveAll(item, _, progress, signal) {
  const body = new Uint8Array(await (await ask(item, signal)).arrayBuffer());
  progress.grow(body.length);
  progress.add(body.length);
  return body;
}

/** @param {Item} item @param {AbortSignal} signal @param {Record<string, string>} [headers] @returns {Promise<Response>} a good one */
async function ask(item, signal, headers = {}) {
  // no-store: the HTTP cache would keep a second copy of every shard.
  const answer = await fetch(item.url, {signal, cache: 'no-store', credentials: 'same-origin', headers});
  if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw new Transient(`the server answered ${answer.status}`);
  if (!answer.ok) throw missingFile(item, answer.status);
  return answer;
}

/** @param {Response} answer @returns {AsyncGenerator<Uint8Array>} the body's parts (Safari's streams are not iterable) */
async function* parts(answer) {
  const reader = answer.body?.getReader();
  if (!reader) return;
  try {
    for (let {done, value} = await reader.read(); !done; {done, value} = await reader.read()) if (value) yield value;
  } finally {
    reader.cancel().catch(() => {}); // of a stream that has ended or failed this is a no-op
  }
}

/** @param {string} id @param {number} bytes @throws {EngineError} QuotaExceededError when the browser says that they do not fit */
async function ensureRoom(id, bytes) {
  const available = await room();
  if (available !== null && available < bytes) throw full(id, bytes, available);
}

/**
 * What the browser says it would still store. Chromium states a round figure to all pages, so the truth may come only from a put.
 * @returns {Promise<number|null>} bytes; null where it does not say
 */
async function room() {
  try {
    const {quota, usage = 0} = await navigator.storage.estimate();
    return quota === undefined ? null : Math.max(0, quota - usage);
  } catch {
    return null;
  }
}

/**
 * @param {string} id @param {Item} item @param {number} left @param {unknown} cause
 * @returns {Promise<EngineError>} why the cache would not take it
 */
async function storageFailure(id, item, left, cause) {
  if (cause instanceof EngineError) return cause;
  const available = await room();
  if (/quota/i.test(`${cause instanceof Error ? cause.name : ''} ${cause}`))
    return full(id, left, available !== null && available < left ? available : null, {file: item.path});
  return unstorable(id, item, left, cause);
}

/** @param {AbortSignal} signal */
function stopIf(signal) {
  if (signal.aborted) throw aborted('download', 'The download was stopped; what is done is kept.');
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} early when stopped */
const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), {once: true});
  });
