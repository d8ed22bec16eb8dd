/** The looks: the theme (as the system, light, dark, round and round) and the density. theme.js puts what is stored on before the first paint. */

import { icon } from './dom.js';
import { readStored, writeStored } from './stored.js';
import { strings } from './strings.js';

/** @typedef {'system'|'light'|'dark'} Theme */

/** @type {Theme[]} */
const THEMES = ['system', 'light', 'dark'];

/** @type {Set<(theme: Theme) => void>} who shows which one it is; of the density too */
const shown = new Set();

let now = THEMES.find((known) => known === readStored().theme) ?? 'system';

/** @returns {Theme} the one in force; a browser that stores nothing has one too */
export const theme = () => now;

/** @param {Theme} wanted */
export function setTheme(wanted) {
  const { dataset } = document.documentElement;
  now = wanted;
  if (wanted === 'system') delete dataset.theme;
  else dataset.theme = wanted;
  writeStored('theme', wanted === 'system' ? null : wanted);
  shown.forEach((show) => show(wanted));
}

/** @returns {'comfortable'|'compact'} */
export const density = () => (document.documentElement.dataset.density === 'compact' ? 'compact' : 'comfortable');

/** @param {string} wanted */
export function setDensity(wanted) {
  const { dataset } = document.documentElement;
  if (wanted === 'compact') dataset.density = 'compact';
  else delete dataset.density;
  writeStored('density', wanted === 'compact' ? 'compact' : null);
  shown.forEach((show) => show(now));
}

/** The other one. */
export const nextDensity = () => setDensity(density() === 'compact' ? 'comfortable' : 'compact');

/** @param {(theme: Theme) => void} show is called whenever the looks change */
export const onLooks = (show) => void shown.add(show);

/** The next one in the round. */
export const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length] ?? 'system');

/** @param {HTMLButtonElement} button */
export function themeButton(button) {
  const show = (/** @type {Theme} */ theme) => {
    button.ariaLabel = strings.themes[theme];
    button.title = strings.themes[theme];
    button.replaceChildren(icon(theme));
  };
  shown.add(show);
  show(now);
  button.addEventListener('click', nextTheme);
}
