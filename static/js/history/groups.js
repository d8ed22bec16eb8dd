/** How the list of conversations is divided: pinned ones, folders, then by the day they were last used. Pure. */

import { VERSION } from '../shelf/change.js';

/** @import {Row} from '../shelf/change.js' */

/** @typedef {{key: string, kind: 'pinned'|'folder'|'day', label: string, rows: Row[], open: boolean}} Section */

/**
 * @typedef {object} GroupWords
 * @property {string} pinned
 * @property {string} today
 * @property {string} yesterday
 * @property {string} week
 * @property {string} month
 */

const DAY = 86_400_000;

/**
 * @param {Row[]} rows
 * @param {object} how
 * @param {string[]} how.folders names of folders that may be empty
 * @param {Set<string>} how.closed keys of sections that are folded
 * @param {number} how.now ms
 * @param {string} how.language
 * @param {GroupWords} how.words
 * @returns {Section[]}
 */
export function sections(rows, { folders, closed, now, language, words }) {
  const living = rows.filter(({ deletedAt }) => (deletedAt ?? null) === null).sort((a, b) => (b.updatedAt || 0) - (a.updatedAt || 0));
  /** @type {Map<string, Section>} */
  const found = new Map();
  const put = (/** @type {string} */ key, /** @type {Section['kind']} */ kind, /** @type {string} */ label, /** @type {Row} */ row) => {
    if (!found.has(key)) found.set(key, { key, kind, label, rows: [], open: !closed.has(key) });
    found.get(key)?.rows.push(row);
  };
  const named = new Set([...folders, ...living.map(({ folder }) => folder).filter((folder) => typeof folder === 'string')]);
  const pinned = living.filter((row) => row.pinned === true);
  for (const row of pinned) put('pinned', 'pinned', words.pinned, row);
  const sorted = [...named].sort((a, b) => a.localeCompare(b, language, { numeric: true }));
  for (const folder of sorted) found.set(`folder ${folder}`, { key: `folder ${folder}`, kind: 'folder', label: folder, rows: [], open: !closed.has(`folder ${folder}`) });
  for (const row of living) {
    if (row.pinned === true) continue;
    if (typeof row.folder === 'string') put(`folder ${row.folder}`, 'folder', row.folder, row);
    else {
      const { key, label } = day(row.updatedAt, now, language, words);
      put(key, 'day', label, row);
    }
  }
  return [...found.values()];
}

/**
 * @param {number} at ms; one that lies in the future (a clock was set back) is today's
 * @param {number} now
 * @param {string} language
 * @param {GroupWords} words
 */
function day(at, now, language, words) {
  const today = new Date(now).setHours(0, 0, 0, 0);
  if (!(at < today)) return { key: 'today', label: words.today };
  if (at >= today - DAY) return { key: 'yesterday', label: words.yesterday };
  if (at >= today - 7 * DAY) return { key: 'week', label: words.week };
  if (at >= today - 30 * DAY) return { key: 'month', label: words.month };
  const date = new Date(at);
  return { key: `${date.getFullYear()}-${date.getMonth()}`, label: new Intl.DateTimeFormat(language, { month: 'long', year: 'numeric' }).format(date) };
}

/** @param {Row} row @returns {boolean} whether only a later page understands it */
export const isNewer = (row) => (row.v ?? 0) > VERSION;
