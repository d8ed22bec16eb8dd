/** How the page looks and is written with: theme, density, language, what Enter does. The first three are the shell's own to keep. */

import { density, onLooks, setDensity, setTheme, theme } from '../appearance.js';
import { LANGUAGES } from '../strings.js';
import { writeStored } from '../stored.js';
import { h } from './dom.js';
import { catalogue } from './words.js';

const words = catalogue.settings;

/** @param {(name: string, value: unknown) => void} prefer @returns {{node: HTMLElement, show: (state: {enter: string, mermaid: boolean}) => void}} */
export function looks(prefer) {
  const pick = (/** @type {string} */ name, /** @type {string} */ label, /** @type {Record<string, string>} */ choices, /** @type {(value: string) => void} */ change) => {
    const select = h('select', { 'data-testid': `prefer-${name}`, onchange: () => change(select.value) }, ...Object.entries(choices).map(([value, text]) => h('option', { value, text })));
    return { select, label: h('label', { class: 'field' }, h('span', { text: label }), select) };
  };
  const root = document.documentElement;
  const themes = pick('theme', words.theme, words.themes, (value) => setTheme(/** @type {'system'|'light'|'dark'} */ (value)));
  const densities = pick('density', words.density, words.densities, setDensity);
  const languages = pick('language', words.language, LANGUAGES, (value) => {
    writeStored('language', value);
    location.reload(); // every sentence is said once; a new language is a new page
  });
  const enter = h('input', { type: 'checkbox', 'data-testid': 'prefer-enter', onchange: () => prefer('enter', enter.checked ? 'send' : 'newline') });
  const mermaid = h('input', { type: 'checkbox', 'data-testid': 'prefer-mermaid', onchange: () => prefer('mermaid', mermaid.checked) });
  const node = h('div', {}, h('h3', { text: words.looks }), h('div', { class: 'grid' }, themes.label, densities.label, languages.label),
    h('label', { class: 'tick' }, enter, h('span', { text: words.enter })), h('p', { class: 'hint', text: words.enterHint }),
    h('label', { class: 'tick' }, mermaid, h('span', { text: words.mermaid })));

  const looks = () => ([themes.select.value, densities.select.value] = [theme(), density()]);
  onLooks(looks);

  return {
    node,
    show({ enter: key, mermaid: draws }) {
      looks();
      languages.select.value = root.lang;
      enter.checked = key !== 'newline';
      mermaid.checked = draws;
    },
  };
}
