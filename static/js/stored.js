/**
 * What the page keeps in localStorage: JSON under `hybr:<key>`. A browser that refuses storage costs settings, not the page.
 *
 * Several tabs write the same objects, so a change names what it changes and is made to what is stored by then. Laying names over
 * others is done at once, as the page may be left in the next moment; sums, which must not lose what two tabs add in the same
 * moment, are added under a Web Lock, or when the page goes before it came.
 */

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

/** @typedef {Record<string, any>} Plain */

/**
 * Lay names over the stored object.
 * @param {string} key
 * @param {Plain} change
 * @returns {boolean} whether it is kept
 */
export function assignStored(key, change) {
  return writeStored(key, { ...stored(key), ...change });
}

/** @type {Set<() => void>} additions that wait for the lock */
const waiting = new Set();

/**
 * Add numbers, at any depth, to the stored object's.
 * @param {string} key
 * @param {Plain} change
 * @param {(kept: boolean, sums: Plain) => void} done with the names of `change`, as they are stored by now
 */
export function addStored(key, change, done) {
  const work = () => {
    if (!waiting.delete(work)) return;
    const now = added(stored(key), change);
    const kept = writeStored(key, now);
    done(kept, Object.fromEntries(Object.keys(change).map((name) => [name, now[name]])));
  };
  waiting.add(work);
  if (navigator.locks) navigator.locks.request(`hybr:stored:${key}`, work).catch(work);
  else work();
}

addEventListener('pagehide', () => waiting.forEach((work) => work()));

/**
 * @param {Pick<StorageEvent, 'key'|'oldValue'|'newValue'>} event another tab's write
 * @returns {{key: string, value: Plain}|null} the names of an object that it changed; null when there are none
 */
export function changesOf({ key, oldValue, newValue }) {
  if (!key?.startsWith(STORE_PREFIX)) return null;
  const before = parsed(oldValue);
  const changed = Object.entries(parsed(newValue)).filter(([name, now]) => JSON.stringify(now) !== JSON.stringify(before[name]));
  return changed.length ? { key: key.slice(STORE_PREFIX.length), value: Object.fromEntries(changed) } : null;
}

/** @param {string} key */
function stored(key) {
  try {
    return parsed(localStorage.getItem(STORE_PREFIX + key));
  } catch {
    return {};
  }
}

/**
 * @param {string|null} text
 * @returns {Plain} the object; an empty one where there is none
 */
function parsed(text) {
  try {
    return plain(JSON.parse(text ?? '{}'));
  } catch {
    return {};
  }
}

/**
 * @param {unknown} value
 * @returns {Plain}
 */
function plain(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

/**
 * @param {Plain} sums
 * @param {Plain} change
 * @returns {Plain}
 */
function added(sums, change) {
  const now = { ...sums };
  for (const [name, more] of Object.entries(change)) {
    now[name] = typeof more === 'number' ? (Number(now[name]) || 0) + more : added(plain(now[name]), more);
  }
  return now;
}
