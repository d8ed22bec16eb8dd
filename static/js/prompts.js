/** The person's prompts: texts with a name, kept in this browser, changed one by one so that two tabs do not lose each other's. */

import { fold } from './commands.js';
import { assignStored, readStored } from './stored.js';

const KEY = 'prompts';

/** @typedef {{id: string, title: string, text: string}} Prompt */

/** @returns {Prompt[]} by name */
export function list() {
  const stored = /** @type {Record<string, unknown>} */ (readStored()[KEY] ?? {});
  return Object.entries(stored)
    .flatMap(([id, value]) => {
      const { title, text } = /** @type {Partial<Prompt>} */ (value ?? {});
      return typeof title === 'string' && typeof text === 'string' && title ? [{ id, title, text }] : [];
    })
    .sort((a, b) => a.title.localeCompare(b.title, document.documentElement.lang));
}

/**
 * @param {{id?: string, title: string, text: string}} prompt without an id it is a new one
 * @returns {boolean} whether it is kept
 */
export function save({ id = crypto.randomUUID(), title, text }) {
  return assignStored(KEY, { [id]: { title: title.trim(), text } });
}

/** @param {string} id */
export function remove(id) {
  return assignStored(KEY, { [id]: null });
}

/** @param {string} query @returns {Prompt[]} those whose name has all its words */
export function find(query) {
  const words = fold(query).split(/[\s-]+/).filter(Boolean);
  return list().filter(({ title }) => words.every((word) => fold(title).includes(word)));
}
