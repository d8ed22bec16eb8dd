/** Marks found words without touching the document: CSS's own highlights, where the browser has them. */

import { fold } from './commands.js';

/**
 * Every place in an element where the words stand, without regard to case and accents.
 * @param {Element} root
 * @param {string} words
 * @returns {Range[]}
 */
export function places(root, words) {
  const wanted = fold(words.trim());
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  /** @type {{node: Text, at: number}[]} where each character of the folded text comes from */
  const origin = [];
  let text = '';
  for (let node = walker.nextNode(); node && wanted; node = walker.nextNode()) {
    const piece = /** @type {Text} */ (node);
    if (piece.parentElement?.closest('.hidden, .code-bar, .message-acts')) continue;
    for (let at = 0; at < piece.length; at += 1) {
      const folded = fold(piece.data[at] ?? '');
      text += folded;
      for (let i = 0; i < folded.length; i += 1) origin.push({ node: piece, at });
    }
  }
  const found = [];
  for (let at = text.indexOf(wanted); at >= 0 && wanted; at = text.indexOf(wanted, at + wanted.length)) {
    const [first, last] = [origin[at], origin[at + wanted.length - 1]];
    if (!first || !last) break;
    const range = document.createRange();
    range.setStart(first.node, first.at);
    range.setEnd(last.node, last.at + 1);
    found.push(range);
  }
  return found;
}

/**
 * Marks the places, one of them as the one that is meant; an empty `words` takes all marks away.
 * @param {Element} root
 * @param {string} words
 * @param {number} [which]
 * @returns {{range: Range|null, count: number}} that one, and how many there are
 */
export function mark(root, words, which = 0) {
  const found = places(root, words);
  const range = found.at(Math.min(which, found.length - 1)) ?? null;
  if (globalThis.Highlight && CSS.highlights) {
    CSS.highlights.set('found', new Highlight(...found));
    CSS.highlights.set('meant', new Highlight(...(range ? [range] : [])));
  }
  return { range, count: found.length };
}

/** Takes the marks away. */
export function unmark() {
  CSS.highlights?.delete('found');
  CSS.highlights?.delete('meant');
}
