/**
 * Colours for code that is done: highlight.js with its common languages, loaded when the first such block comes. One block at a time,
 * when the page has nothing better to do; what is too long stays plain. Its HTML is sanitised down to spans with its own classes.
 */

import DOMPurify from '../vendor/dompurify/purify.es.mjs';
import { draw, isDiagram } from './diagram.js';

/** @typedef {{getLanguage(name: string): unknown, highlight(code: string, options: object): {value: string}}} Highlighter */

/** Characters of code that are coloured at most: about 20 ms of work. */
const LONGEST = 20_000;
const CLASSES = /^(?:hljs-[\w-]+_?|language-[\w+#.-]+)(?: (?:hljs-)?[\w-]+_?)*$/;

/** @type {Promise<Highlighter>|null} */
let loading = null;
/** @type {{code: HTMLElement, lang: string}[]} code that waits */
const waiting = [];

const purifier = DOMPurify(window);
purifier.setConfig({ ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], RETURN_DOM_FRAGMENT: true });
purifier.addHook('afterSanitizeAttributes', (node) => {
  if (node.hasAttribute('class') && !CLASSES.test(node.className)) node.removeAttribute('class');
});

/**
 * @param {HTMLElement} block of code that is done; it may leave the page before its turn comes
 * @param {string} lang as the model named it
 */
export function colour(block, lang) {
  const code = block.querySelector('code');
  if (isDiagram(lang)) void draw(block);
  if (!(code instanceof HTMLElement) || !lang || (code.textContent ?? '').length > LONGEST) return;
  if (waiting.push({ code, lang: lang.toLowerCase() }) === 1) soon();
}

function soon() {
  const idle = globalThis.requestIdleCallback ?? ((/** @type {() => void} */ work) => setTimeout(work, 30));
  idle(() => void next(), { timeout: 500 });
}

async function next() {
  const first = waiting[0];
  try {
    loading ??= import('../vendor/highlight/highlight.min.js').then((module) => module.default);
    const highlighter = await loading;
    if (first?.code.isConnected) one(highlighter, first.code, first.lang);
  } catch (error) {
    console.warn('no colours for code:', error);
  }
  waiting.shift();
  if (waiting.length) soon();
}

/** @param {Highlighter} highlighter @param {HTMLElement} code @param {string} language */
function one(highlighter, code, language) {
  if (!highlighter.getLanguage(language)) return;
  const { value } = highlighter.highlight(code.textContent ?? '', { language, ignoreIllegals: true });
  code.replaceChildren(/** @type {any} */ (purifier.sanitize(value)));
}
