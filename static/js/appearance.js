/** The theme button: as the system, light, dark, round and round. theme.js puts the stored choice on before the first paint. */

import { icon } from './dom.js';
import { readStored, writeStored } from './stored.js';
import { strings } from './strings.js';

/** @type {('system'|'light'|'dark')[]} */
const THEMES = ['system', 'light', 'dark'];

/** @param {HTMLButtonElement} button */
export function themeButton(button) {
  const root = document.documentElement;
  const show = (/** @type {'system'|'light'|'dark'} */ theme) => {
    if (theme === 'system') delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.ariaLabel = strings.themes[theme];
    button.title = strings.themes[theme];
    button.replaceChildren(icon(theme));
  };
  let theme = THEMES.find((known) => known === readStored().theme) ?? 'system';
  show(theme);
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'system';
    writeStored('theme', theme === 'system' ? null : theme);
    show(theme);
  });
}
