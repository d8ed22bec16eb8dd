/**
 * Formulas: where they are in a text, and how they are set. Finding them is part of lexing; setting them needs KaTeX, which is loaded
 * with its fonts when the first formula comes. Until then, and where KaTeX gives up, the source stands as code.
 *
 * `$...$`, `\(...\)`, `$$...$$` and `\[...\]` as pandoc reads them: no blank line inside; a single dollar opens before no space and after no
 * letter or digit, closes after no space and before no letter or digit, and a number followed by a word is a price, not a formula.
 * A `$$` at the start of a line that is still open at the end of the text counts as one block, so that no later line tears it apart.
 */

import DOMPurify from '../vendor/dompurify/purify.es.mjs';

/** @import {TokenizerAndRendererExtension, Tokens} from 'marked' */

const BLOCK = /^ {0,3}(?:\$\$((?:(?!\n[ \t]*\n|\$\$)[\s\S])+)\$\$|\\\[((?:(?!\n[ \t]*\n|\\\])[\s\S])+)\\\])[ \t]*(?:\n|$)/;
const OPEN = /^ {0,3}(?:\$\$(?:(?!\n[ \t]*\n|\$\$)[\s\S])*|\\\[(?:(?!\n[ \t]*\n|\\\])[\s\S])*)$/;
const DISPLAY = /^(?:\$\$((?:(?!\n[ \t]*\n|\$\$)[\s\S])+)\$\$|\\\[((?:(?!\n[ \t]*\n|\\\])[\s\S])+)\\\])/;
const INLINE = /^(?:\$(?![\s$])((?:\\[\s\S]|(?!\n[ \t]*\n)[^\\$])*?[^\s\\$]|(?:\\[\s\S]|[^\\$\s])+?)\$(?![\p{L}\p{N}$])|\\\(((?:(?!\n[ \t]*\n|\\\))[\s\S])+)\\\))/u;
const PRICE = /^\d[\d.,]*(?:\s*[kKmM]|\s*bn)?\s+\p{L}{2,}/u;
/** Longer ones stay source: nobody writes them by hand, and setting one would hold up the page. */
const LONGEST = 4000;

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** @param {string} raw @param {string} tex @param {boolean} display */
const token = (raw, tex, display) => ({ type: display ? 'mathBlock' : 'math', raw, text: tex.trim(), display });

/** @param {{text: string, raw: string, display?: boolean}} token What the sanitiser lets through; `set` finds it by its class. */
const shown = ({ text, raw, display }) =>
  text ? `<code class="math-${display ? 'block' : 'inline'}">${escape(text)}</code>` : escape(raw);

/** @type {TokenizerAndRendererExtension[]} */
export const extensions = [
  {
    name: 'mathBlock',
    level: 'block',
    start(src) {
      const end = src.indexOf('\n\n'); // a paragraph ends there anyway, and what comes after may be long
      return /\n {0,3}(?:\$\$|\\\[)/.exec(end < 0 ? src : src.slice(0, end))?.index;
    },
    tokenizer(src) {
      if (!/^ {0,3}(?:\$\$|\\\[)/.test(src)) return undefined;
      const found = BLOCK.exec(src);
      if (found) return token(found[0], found[1] ?? found[2] ?? '', true);
      return OPEN.test(src) ? token(src, '', true) : undefined;
    },
    renderer: (token) => `<p>${shown(/** @type {any} */ (token))}</p>`,
  },
  {
    name: 'math',
    level: 'inline',
    start: (src) => /\$|\\[([]/.exec(src)?.index,
    tokenizer(src, tokens) {
      if (src[0] !== '$' && src[0] !== '\\') return undefined;
      const display = DISPLAY.exec(src);
      if (display) return token(display[0], display[1] ?? display[2] ?? '', true);
      const found = INLINE.exec(src);
      const before = /** @type {Tokens.Generic|undefined} */ (tokens.at(-1))?.raw.at(-1) ?? '';
      if (!found || (found[1] && (PRICE.test(found[1]) || /[\p{L}\p{N}$\\]/u.test(before)))) return undefined;
      return token(found[0], found[1] ?? found[2] ?? '', false);
    },
    renderer: (token) => shown(/** @type {any} */ (token)),
  },
];

/** @typedef {{renderToString(tex: string, options: object): string}} Katex */
/** @type {Promise<Katex>|null} */
let loading = null;
/** @type {Katex|null} */
let katex = null;

/** @returns {Promise<Katex>} KaTeX and its style sheet, asked for once */
function load() {
  loading ??= Promise.all([import('../vendor/katex/katex.mjs'), styled()]).then(([module]) => (katex = module.default));
  return loading;
}

/** @returns {Promise<void>} when the style sheet is there, or cannot be had */
function styled() {
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = new URL('../vendor/katex/katex.min.css', import.meta.url).href;
  document.head.append(link);
  return new Promise((done) => (link.onload = link.onerror = () => done()));
}

const purifier = DOMPurify(window);

/** @param {string} html what KaTeX made @returns {DocumentFragment} without any way to ask for something or to run */
const clean = (html) =>
  purifier.sanitize(html, {
    USE_PROFILES: { html: true, mathMl: true, svg: true },
    ADD_TAGS: ['semantics', 'annotation'],
    ADD_ATTR: ['encoding'],
    FORBID_TAGS: ['a', 'img', 'image', 'use', 'style', 'form', 'input', 'button', 'audio', 'video', 'source', 'picture'],
    FORBID_ATTR: ['href', 'xlink:href', 'src', 'srcset', 'id', 'name', 'target', 'action'],
    ALLOW_DATA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });

/**
 * Sets the formulas in an element, now if KaTeX is there, else when it has come and the element is still in use.
 * @param {HTMLElement} root
 */
export function setFormulas(root) {
  const found = /** @type {HTMLElement[]} */ ([...root.querySelectorAll('code.math-inline, code.math-block')]);
  if (!found.length) return;
  if (katex) for (const code of found) setOne(katex, code);
  else load().then((made) => found.forEach((code) => code.isConnected && setOne(made, code)), (error) => console.warn('no formulas:', error));
}

/** @param {Katex} made @param {HTMLElement} code */
function setOne(made, code) {
  const tex = code.textContent ?? '';
  const displayMode = code.classList.contains('math-block');
  if (tex.length > LONGEST) return;
  try {
    const html = made.renderToString(tex, { displayMode, throwOnError: true, trust: false, strict: 'ignore', maxExpand: 500, maxSize: 20 });
    const holder = document.createElement('span');
    holder.className = displayMode ? 'formula display' : 'formula';
    if (displayMode) holder.tabIndex = 0;
    holder.append(clean(html));
    code.replaceWith(holder);
  } catch {
    code.title = tex; // not TeX after all, or more than KaTeX knows: the source is what there is to read
  }
}
