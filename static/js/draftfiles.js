/**
 * Files of drafts, in a database of their own (they are too large for localStorage): those of the newest drafts, up to a bound. A browser
 * that refuses the database, or has no room, has them for as long as the page.
 *
 * Sizes stand beside the files, so that what is too old or too much is found without reading it.
 */

/** @import {Attachment} from './protocol.js' */

const NAME = 'hybr-drafts';
/** UTF-16 units of all drafts' files, and how old one may get (ms). */
const MOST = 48 * 2 ** 20;
const OLDEST = 30 * 86_400_000;

/** @typedef {{files: IDBObjectStore, sizes: IDBObjectStore}} Stores */

/** @type {Promise<IDBDatabase>|null} */
let opened = null;

/** @param {string} key @returns {Promise<Attachment[]>} of a draft; none where there is none */
export async function load(key) {
  try {
    return (await run('readonly', ({ files }) => done(files.get(key)))) ?? [];
  } catch (error) {
    console.warn('files of a draft:', error);
    return [];
  }
}

/** @param {string} key @param {Attachment[]} files of the draft from now on @returns {Promise<void>} when they are kept, or cannot be */
export async function keep(key, files) {
  const size = files.reduce((sum, { data }) => sum + data.length, 0);
  try {
    await run('readwrite', async (stores) => {
      await put(stores, key, size <= MOST ? files : [], size);
      await sweep(stores, key);
    });
  } catch (error) {
    console.warn('files of a draft:', error);
  }
}

/** @param {Stores} stores @param {string} key @param {Attachment[]} files @param {number} size */
function put({ files: all, sizes }, key, files, size) {
  if (files.length) return Promise.all([done(all.put(files, key)), done(sizes.put({ size, at: Date.now() }, key))]);
  return Promise.all([done(all.delete(key)), done(sizes.delete(key))]);
}

/** Lets go of the oldest. @param {Stores} stores @param {string} own that stays */
async function sweep({ files, sizes }, own) {
  const [keys, all] = await Promise.all([done(sizes.getAllKeys()), done(sizes.getAll())]);
  const drafts = keys.map((/** @type {string} */ key, /** @type {number} */ i) => ({ key, ...all[i] }));
  let room = MOST;
  for (const { key, size, at } of drafts.sort((/** @type {any} */ a, /** @type {any} */ b) => Number(b.key === own) - Number(a.key === own) || b.at - a.at)) {
    room -= size;
    if (key === own || (room >= 0 && Math.abs(Date.now() - at) < OLDEST)) continue; // a clock may have been set back
    files.delete(key);
    sizes.delete(key);
  }
}

/**
 * @param {IDBTransactionMode} mode
 * @param {(stores: Stores) => Promise<any>} work
 * @returns {Promise<any>} when it is in the database
 */
async function run(mode, work) {
  opened ??= open();
  const database = await opened.catch((error) => {
    opened = null;
    throw error;
  });
  const transaction = database.transaction(['files', 'sizes'], mode);
  const ended = new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
  const result = await work({ files: transaction.objectStore('files'), sizes: transaction.objectStore('sizes') });
  await ended;
  return result;
}

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('files');
      request.result.createObjectStore('sizes');
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      request.result.onclose = () => (opened = null); // the person has cleared this site's data
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
}

/** @param {IDBRequest} request @returns {Promise<any>} */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
