/** What the page keeps in localStorage: JSON under `hybr:<key>`. A browser that refuses storage costs settings, not the page. */

import { STORE_PREFIX } from './protocol.js';

/** @returns {Record<string, unknown>} every stored value by its key; damaged ones are left out */
export function readStored() {
  /** @type {Record<string, unknown>} */
  const stored = {};
  try {
    for (const [key, text] of Object.entries({ ...localStorage })) {
      if (!key.startsWith(STORE_PREFIX)) continue;
      try {
        stored[key.slice(STORE_PREFIX.length)] = JSON.parse(text);
      } catch {
        localStorage.removeItem(key);
      }
    }
  } catch {
    // Storage is denied: nothing is stored.
  }
  return stored;
}

/**
 * @param {string} key
 * @param {unknown} value undefined or null takes it away
 * @returns {boolean} whether it is kept
 */
export function writeStored(key, value) {
  try {
    if (value === undefined || value === null) localStorage.removeItem(STORE_PREFIX + key);
    else localStorage.setItem(STORE_PREFIX + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
