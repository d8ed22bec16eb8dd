/**
 * Files of drafts, in a database of their own (they are too large for localStorage): those of the newest drafts, up to a bound. A browser
 * that refuses the database, or has no room, has them for as long as the page.
 *
 * Sizes stand beside the files, so that what is too old or too much is found without reading it.
 */

import { Database, done } from './database.js';

/** @import {Attachment} from './protocol.js' */

/** UTF-16 units of all drafts' files, and how old one may get (ms). */
const MOST = 48 * 2 ** 20;
const OLDEST = 30 * 86_400_000;

/** @typedef {{files: IDBObjectStore, sizes: IDBObjectStore}} Stores */

const STORES = ['files', 'sizes'];

const database = new Database('hybr-drafts', 1, (made) => STORES.forEach((name) => made.createObjectStore(name)));

/** @param {string} key @returns {Promise<Attachment[]>} of a draft; none where there is none */
export async function load(key) {
  try {
    return (await database.run(STORES, 'readonly', (files) => done(files.get(key)))) ?? [];
  } catch (error) {
    console.warn('files of a draft:', error);
    return [];
  }
}

/** @param {string} key @param {Attachment[]} files of the draft from now on @returns {Promise<void>} when they are kept, or cannot be */
export async function keep(key, files) {
  const size = files.reduce((sum, { data }) => sum + data.length, 0);
  try {
    await database.run(STORES, 'readwrite', async (all, sizes) => {
      await put({ files: all, sizes }, key, size <= MOST ? files : [], size);
      await sweep({ files: all, sizes }, key);
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
