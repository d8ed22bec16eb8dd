/**
 * Blocks of code: text that grows by appending, and a bar with the language's name and a button that copies (the message view listens).
 * A block of its own is streamed into; one inside a list or a quotation is made anew with that.
 */

import { strings } from './strings.js';

/** @import {Token, Tokens} from 'marked' */

/** Characters of code in one piece of layout. */
const PIECE = 8_000;

/**
 * @typedef {object} Code
 * @property {string} lang
 * @property {string} value
 * @property {Text} node the last piece, which grows
 */

/**
 * @param {Token|undefined} token the last one
 * @returns {boolean} whether it is code whose fence, without indentation, is still open and whose text is all there
 */
export function openFence(token) {
  if (token?.type !== 'code') return false;
  const { raw, text } = /** @type {Tokens.Code} */ (token);
  const [opening = ''] = /^(?:```+|~~~+)[^\n]*\n/.exec(raw) ?? [];
  return opening !== '' && raw === opening + text;
}

/** @param {string} info what stands behind the fence */
export const language = (info) => info.split(/\s/, 1)[0] ?? '';

/**
 * Grows code in place: no parsing, no new nodes, the reader's selection stays.
 * @param {Code} code
 * @param {Tokens.Code} token
 * @param {boolean} done coloured, or about to be
 * @returns {boolean} whether it could
 */
export function grow(code, token, done) {
  const value = token.text;
  if ((token.lang ?? '') !== code.lang || !value.startsWith(code.value)) return false;
  const added = value.slice(code.value.length);
  if (added && done) return false;
  extend(code, added);
  return true;
}

/**
 * Long code is several pieces, each ending with a line, so that growing it lays out the last one only.
 * @param {Code} code
 * @param {string} added
 */
export function extend(code, added) {
  code.value += added;
  for (let rest = added; rest; ) {
    if (code.node.length > PIECE && code.node.data.endsWith('\n')) {
      const piece = document.createElement('span');
      const node = document.createTextNode('');
      piece.className = 'piece';
      piece.append(node);
      code.node.parentElement?.closest('code')?.append(piece);
      code.node = node;
    }
    const line = rest.indexOf('\n', Math.max(PIECE - code.node.length, 0));
    const cut = line < 0 ? rest.length : line + 1;
    code.node.appendData(rest.slice(0, cut));
    rest = rest.slice(cut);
  }
}

/**
 * Makes an element a code block.
 * @param {HTMLElement} element
 * @param {Tokens.Code} token
 * @returns {Code|null}
 */
export function dress(element, token) {
  const pre = element.querySelector('pre');
  const holder = pre?.querySelector('code') ?? pre;
  if (!pre || !holder) return null;
  const code = { lang: token.lang ?? '', value: '', node: document.createTextNode('') };
  holder.replaceChildren(code.node);
  extend(code, token.text);
  barred(element, language(code.lang));
  return code;
}

/** Gives the code inside other blocks the same. @param {HTMLElement} element */
export function nested(element) {
  for (const pre of element.querySelectorAll('pre')) {
    const holder = document.createElement('div');
    pre.replaceWith(holder);
    holder.append(pre);
    const text = pre.firstElementChild?.lastChild;
    if (text instanceof Text) text.data = text.data.replace(/\n$/, '');
    barred(holder, /\blanguage-(\S+)/.exec(pre.firstElementChild?.className ?? '')?.[1] ?? '');
  }
}

/** @param {HTMLElement} element @param {string} lang */
function barred(element, lang) {
  const [bar, name, copy] = [document.createElement('div'), document.createElement('span'), document.createElement('button')];
  bar.className = 'code-bar';
  name.textContent = lang || 'text';
  copy.type = 'button';
  copy.className = 'copy-code';
  copy.textContent = strings.copy;
  bar.append(name, copy);
  element.classList.add('code');
  element.dataset.lang = lang;
  element.prepend(bar);
}
