/** The theme: as the system, light, dark, round and round. theme.js puts the stored choice on before the first paint. */

import { icon } from './dom.js';
import { readStored, writeStored } from './stored.js';
import { strings } from './strings.js';

/** @typedef {'system'|'light'|'dark'} Theme */

/** @type {Theme[]} */
const THEMES = ['system', 'light', 'dark'];

/** @type {Set<(theme: Theme) => void>} who shows which one it is */
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
