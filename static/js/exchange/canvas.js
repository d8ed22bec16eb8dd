/**
 * Documents of ChatGPT's canvas. A message to the tool `canmore` has JSON for a text: `{name, type, content}` creates a document,
 * `{updates: [{pattern, multiple, replacement}]}` changes it. Patterns are a model's regular expressions; those that stand for the whole
 * or for plain words are applied, others leave the document as it is, for a pattern from a file must not keep the page busy.
 */

import { fenced } from './markdown.js';
import { plain } from './rows.js';

/** @typedef {{name: string, type: string, content: string}} Document */

/**
 * @param {any} node of the mapping
 * @param {Document|null} before the document above it
 * @returns {Document|null} as this message has left it; null where it touched none
 */
export function documentIn(node, before) {
  const { content, recipient } = plain(node) && plain(node.message) ? node.message : {};
  if (!plain(content) || typeof recipient !== 'string' || !recipient.startsWith('canmore.')) return null;
  const asked = parsed(typeof content.text === 'string' ? content.text : Array.isArray(content.parts) ? content.parts[0] : '');
  if (recipient === 'canmore.create_textdoc' && typeof asked?.content === 'string') {
    const [name, type] = [asked.name, asked.type].map((one) => (typeof one === 'string' ? one : ''));
    return { name: name ?? '', type: type ?? '', content: asked.content };
  }
  if (recipient !== 'canmore.update_textdoc' || !before || !Array.isArray(asked?.updates)) return null;
  return { ...before, content: asked.updates.filter(plain).reduce(updated, before.content) };
}

/** @param {Document} document @returns {string} as a part of its message */
export function shown({ name, type, content }) {
  const [, language] = /^code\/([\w+#-]+)/.exec(type) ?? [];
  const body = type.startsWith('code') ? fenced(content, language ?? '') : content;
  return name ? `**${name.replace(/\s+/g, ' ')}**\n\n${body}` : body;
}

/** @param {string} text @param {any} update @returns {string} */
function updated(text, { pattern, multiple, replacement }) {
  if (typeof pattern !== 'string' || typeof replacement !== 'string') return text;
  if (/^\^?\.[*+]\$?$/.test(pattern)) return replacement;
  const words = pattern.replace(/\\([^\w\s])/g, '$1').replace(/\\n/g, '\n').replace(/\\t/g, '\t');
  if (!words) return text;
  return multiple === true ? text.replaceAll(words, () => replacement) : text.replace(words, () => replacement);
}

/** @param {unknown} text @returns {any} */
function parsed(text) {
  try {
    return typeof text === 'string' ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
