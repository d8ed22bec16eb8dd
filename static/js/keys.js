/**
 * Keys that work anywhere on the page: each command's `shortcut`, written 'Mod+Shift+O' (Mod is Cmd on a Mac, Ctrl elsewhere) or as
 * one character such as '?'. A single character never fires while one types, and no shortcut fires under an open dialog of another's.
 */

import { catalogue } from './strings.js';

/** @import {Command, Commands} from './commands.js' */

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

const { caps } = catalogue.palette;

/** Names that differ from what is printed on the key. */
const PRINTED = /** @type {Record<string, string>} */ ({
  ...caps, Mod: MAC ? '⌘' : caps.Ctrl, ...(MAC ? { Shift: '⇧', Alt: '⌥' } : {}), ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→',
});

/**
 * @param {string} shortcut
 * @returns {string[]} the keys as they are printed
 */
export const printed = (shortcut) => shortcut.split('+').map((name) => PRINTED[name] ?? name);

/**
 * @param {string} shortcut
 * @param {KeyboardEvent} event
 */
export function matches(shortcut, event) {
  const names = shortcut.split('+');
  const key = names.pop() ?? '';
  if (event.key.toLowerCase() !== key.toLowerCase()) return false;
  const mod = MAC ? event.metaKey : event.ctrlKey;
  const other = MAC ? event.ctrlKey : event.metaKey;
  if (names.includes('Mod') !== mod || other || names.includes('Alt') !== event.altKey) return false;
  return isCharacter(shortcut) || names.includes('Shift') === event.shiftKey; // '?' needs Shift on some keyboards and not on others
}

/** @param {string} shortcut */
const isCharacter = (shortcut) => [...shortcut].length === 1;

/** @param {EventTarget|null} target */
const isTyping = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(?:INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/**
 * Listens for the commands' shortcuts, for as long as the page lives.
 * @param {Commands} commands
 */
export function bindKeys(commands) {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const [target] = event.composedPath(); // views live in shadow roots
    const found = commands.list().find(({ shortcut }) => shortcut && matches(shortcut, event));
    if (!found || (isCharacter(found.shortcut ?? '') && isTyping(target ?? null))) return;
    if (document.querySelector('dialog[open]')) return;
    event.preventDefault();
    commands.run(found.id);
  });
}
