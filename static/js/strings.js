/**
 * The words of the page in the language that the person chose, or that their browser prefers, or English. One catalogue a language
 * (words/*.js); only the one in use is fetched beside English. theme.js has put the language on <html> before the first paint.
 */

import { en } from './words/en.js';

/** Languages there is a catalogue for, by their own names. */
export const LANGUAGES = Object.freeze({ en: 'English', de: 'Deutsch' });

/** @type {Record<string, () => Promise<typeof en>>} */
const others = { de: () => import('./words/de.js').then((module) => module.de) };

/** @returns {Promise<typeof en>} */
async function chosen() {
  const load = others[document.documentElement.lang];
  if (!load) return en;
  return load().catch((error) => (console.warn('the words of this language cannot be loaded:', error), en));
}

/** Everything, by part. */
export const catalogue = await chosen();

/** The shell's own part. */
export const strings = catalogue.shell;

/**
 * What went wrong, for people. English messages name the thing and the remedy; another language has a sentence for each code, and for
 * each setting that can be refused.
 * @param {{code?: unknown, message?: string, field?: unknown}} error
 * @returns {string}
 */
export function sayError({ code, message = '', field }) {
  const known = (code === 'invalid_option' && sayLimit(String(field ?? ''))) || /** @type {Record<string, string>} */ (catalogue.errors)[String(code)];
  return (catalogue === en ? message || known : known || message) ?? '';
}

/**
 * What the setting may be that was refused; of a schema also where in it.
 * @param {string} field such as settings.response_format.json_schema.schema.properties.age
 * @returns {string} empty when it is none that a person sets
 */
function sayLimit(field) {
  const name = field.split('.').find((part) => part in catalogue.limits);
  const where = field.split(/\.schema\.?/)[1];
  const what = catalogue.limits[name ?? ''] ?? '';
  return what && where ? catalogue.limitAt(what, where) : what;
}

/**
 * Why something cannot run here, with what would change it: what it is called in words.reasons, else the English text.
 * @param {string|null|undefined} code
 * @param {Record<string, any>|null|undefined} args
 * @param {...(string|null|undefined)} plain
 * @returns {string}
 */
export const sayReason = (code, args, ...plain) => catalogue.reasons[String(code)]?.(args ?? {}) ?? plain.filter(Boolean).join(' ');

/**
 * What would help after an error that ended something: by its code, else as it came.
 * @param {Error|{code?: unknown, remedy?: unknown}} error
 * @returns {string}
 */
export function sayRemedy(error) {
  const { code, remedy } = /** @type {{code?: unknown, remedy?: unknown}} */ (error);
  const known = /** @type {Record<string, string>} */ (catalogue.remedies)[String(code)];
  return (catalogue === en ? remedy || known : known || remedy)?.toString() ?? '';
}

/**
 * Put the catalogue's words into the static page: `data-say` is a text, `data-say-label`, `data-say-placeholder` and `data-say-prompt` are
 * attributes.
 * @param {ParentNode} root
 */
export function translate(root) {
  if (catalogue === en) return; // the page says it already
  const words = /** @type {Record<string, string>} */ (catalogue.page);
  for (const found of root.querySelectorAll('[data-say], [data-say-label], [data-say-placeholder]')) {
    const { say = '', sayLabel = '', sayPlaceholder = '', sayPrompt = '' } = /** @type {HTMLElement} */ (found).dataset;
    if (say) found.textContent = words[say] ?? found.textContent;
    if (sayLabel) found.setAttribute('aria-label', words[sayLabel] ?? '');
    if (sayPlaceholder) found.setAttribute('placeholder', words[sayPlaceholder] ?? '');
    if (sayPrompt) found.setAttribute('data-prompt', words[sayPrompt] ?? '');
  }
}
