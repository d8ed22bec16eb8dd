/** The page's own commands: chats, who answers, what is shown. Parts with things of their own register theirs beside them. */

import { nextTheme } from './appearance.js';
import { bindKeys } from './keys.js';
import { Palette } from './palette.js';
import { Sheet } from './sheet.js';
import { writeStored } from './stored.js';
import { catalogue, LANGUAGES } from './strings.js';

/** @import {Commands} from './commands.js' */

const words = catalogue.palette;
const MODES = ['local', 'cloud', 'auto', 'local-only', 'cloud-only'];
/** What one types after `/` for a mode; the longer names are for the palette. */
const SLASH = /** @type {Record<string, string>} */ ({ local: 'local', cloud: 'cloud', auto: 'auto' });

/**
 * @typedef {object} Doer
 * @property {(temporary: boolean) => void} newChat
 * @property {() => void} stop
 * @property {() => boolean} busy whether an answer is under way
 * @property {(mode: string) => unknown} setMode
 * @property {() => void} focusComposer
 * @property {() => void} togglePanel
 */

/**
 * @param {Commands} commands
 * @param {Doer} doer
 */
export function registerVerbs(commands, doer) {
  const [palette, sheet] = [new Palette(commands), new Sheet(commands)];
  commands.register(
    { id: 'palette', title: () => words.title, shortcut: 'Mod+K', run: () => palette.open() },
    { id: 'chat.new', title: () => words.newChat, slash: 'new', shortcut: 'Mod+Shift+O', keywords: ['conversation'], run: () => doer.newChat(false) },
    { id: 'chat.temporary', title: () => words.temporary, slash: 'temporary', keywords: ['private', 'incognito'], run: () => doer.newChat(true) },
    { id: 'chat.stop', title: () => catalogue.page.stop, slash: 'stop', available: doer.busy, run: doer.stop },
    { id: 'chat.write', title: () => words.write, shortcut: 'Shift+Escape', run: doer.focusComposer },
    ...MODES.map((mode) => ({
      id: `mode.${mode}`,
      title: () => words.answers(catalogue.views.modes[mode] ?? mode),
      keywords: ['mode', mode, mode.startsWith('local') ? 'browser' : 'server'],
      ...(SLASH[mode] ? { slash: SLASH[mode] } : {}),
      run: () => doer.setMode(mode),
    })),
    { id: 'show.panel', title: () => words.panel, keywords: ['settings', 'models'], run: doer.togglePanel },
    { id: 'show.theme', title: () => words.theme, keywords: ['dark', 'light'], run: nextTheme },
    ...Object.entries(LANGUAGES).filter(([name]) => name !== document.documentElement.lang).map(([name, own]) => ({
      id: `language.${name}`,
      title: () => words.language(own),
      keywords: ['language', 'sprache', name],
      run: () => void (writeStored('language', name) && location.reload()),
    })),
    { id: 'shortcuts', title: () => words.sheet, slash: 'help', shortcut: '?', keywords: ['keys', 'keyboard'], run: () => sheet.open() },
  );
  bindKeys(commands);
}
