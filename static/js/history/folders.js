/** The names of folders. A folder is what conversations name (`row.folder`); one that is empty is remembered here, in this browser. */

import { assignStored, readStored } from '../stored.js';

const LONG = 80;

/** @returns {{folders?: unknown, closed?: unknown}} */
const stored = () => /** @type {any} */ (readStored().history ?? {});

/** @param {unknown} value @returns {string[]} */
const texts = (value) => (Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []);

/** @returns {string[]} those that may be empty */
export const folderNames = () => texts(stored().folders);

/** @param {string} name @returns {string} as it is kept; empty for none */
export const tidy = (name) => name.replace(/\s+/g, ' ').trim().slice(0, LONG);

/** @param {string} name */
export const remember = (name) => void assignStored('history', { folders: [...new Set([...folderNames(), name])] });

/** @param {string} name */
export const forget = (name) => void assignStored('history', { folders: folderNames().filter((one) => one !== name) });

/** @returns {Set<string>} keys of the sections that are folded */
export const closedSections = () => new Set(texts(stored().closed));

/** @param {string} key @param {boolean} closed */
export function fold(key, closed) {
  const keys = closedSections();
  if (closed) keys.add(key);
  else keys.delete(key);
  assignStored('history', { closed: [...keys] });
}
