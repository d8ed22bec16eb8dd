/** The page's own commands: chats, who answers, what is shown. Parts with things of their own register theirs beside them. */

import { nextDensity, nextTheme } from './appearance.js';
import { bindKeys } from './keys.js';
import { Palette } from './palette.js';
import { reveal } from './reveal.js';
import { Sheet } from './sheet.js';
import { writeStored } from './stored.js';
import { catalogue, LANGUAGES } from './strings.js';

/** @import {Commands} from './commands.js' */

const words = catalogue.palette;
const MODES = ['local', 'cloud', 'auto', 'local-only', 'cloud-only'];
/** What one types after `/` for a mode; the longer names are for the palette. */
const SLASH = /** @type {Record<string, string>} */ ({ local: 'local', cloud: 'cloud', auto: 'auto' });

/** The panel's sections by their names, each with its own heading. */
const TITLES = {
  generation: () => catalogue.generation.title,
  telemetry: () => catalogue.telemetry.title,
  'egress-log': () => catalogue.views.egressLog,
  settings: () => catalogue.settings.title,
  doctor: () => catalogue.doctor.title,
};
const SECTIONS = /** @type {(keyof typeof TITLES)[]} */ (Object.keys(TITLES));

/**
 * @typedef {object} Doer
 * @property {(temporary: boolean) => void} newChat
 * @property {() => void} stop
 * @property {() => boolean} busy whether an answer is under way
 * @property {(mode: string) => unknown} setMode
 * @property {() => void} focusComposer
 * @property {() => void} togglePanel
 * @property {() => void} showPanel
 * @property {() => boolean} panelled whether the panel's views are there
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
    ...SECTIONS.map((name) => ({
      id: `show.${name}`,
      title: () => TITLES[name](),
      keywords: ['show', name],
      available: doer.panelled,
      run: () => (doer.showPanel(), reveal(name)),
    })),
    { id: 'show.theme', title: () => words.theme, keywords: ['dark', 'light'], run: nextTheme },
    { id: 'show.density', title: () => words.density, keywords: ['compact'], run: nextDensity },
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
