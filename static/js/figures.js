/** Figures for people, written as their language writes them. */

/**
 * @param {number} value
 * @param {number} [digits] after the point
 */
export const number = (value, digits = 0) =>
  value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/**
 * @param {number} dollars
 * @returns {string} with as many digits as a small sum needs, and none of nothing
 */
export function money(dollars) {
  const digits = dollars === 0 ? 0 : dollars < 0.01 ? 6 : dollars < 1 ? 4 : 2;
  const style = { style: /** @type {const} */ ('currency'), currency: 'USD', minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits };
  return new Intl.NumberFormat(document.documentElement.lang, style).format(dollars);
}

const UNITS = ['B', 'kB', 'MB', 'GB'];

/** @param {number} count @returns {string} bytes, in decimal units */
export function bytes(count) {
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${number(value, unit > 0 && value < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** @param {number} seconds @returns {string} */
export function duration(seconds) {
  if (seconds < 60) return `${number(Math.max(1, Math.round(seconds)))} s`;
  return seconds < 3600 ? `${number(Math.round(seconds / 60))} min` : `${number(seconds / 3600, 1)} h`;
}

/** @param {number|null|undefined} ms @returns {string} a mean time, or a dash where there is none */
export const average = (ms) => (ms === null || ms === undefined ? '–' : ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000, 1)} s`);
