/**
 * Markdown from models, into the DOM, safely and as it comes.
 *
 * Safety: HTML in the text is shown as text; images become links (no request leaves because a model wrote a URL); what
 * marked makes is cut down by DOMPurify last of all, to the tags and attributes named here.
 *
 * Streaming: the text is lexed from the first block that may still change. A later character can reach back into the last
 * block, and by way of it into the one before (a lone `*` below a quote is a list until its line goes on, and then part
 * of the quote); so all but the last two are frozen and never touched again. `finish()` lexes the whole once more and replaces only blocks that came out differently (a
 * link defined below its use, for instance): the end is always what rendering the whole at once would have given.
 */

import { Lexer, Marked, Parser } from '../vendor/marked/marked.esm.js';
import DOMPurify from '../vendor/dompurify/purify.es.mjs';
import { strings } from './strings.js';

/** @import {Token, Tokens} from 'marked' */

const LINK = /^(?:https?:|mailto:)/i;
const TAGS = ('p br hr h1 h2 h3 h4 h5 h6 em strong del code pre blockquote ul ol li a '
  + 'table thead tbody tr th td sup sub').split(' ');
const CLASS = /^language-[\w+#.-]+$/;

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const engine = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escape(text)}</p>` : escape(text)),
    image: ({ href, text }) => {
      const label = escape(text || href);
      return LINK.test(href) ? `<a href="${escape(href)}">${label}</a>` : label;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

const purifier = DOMPurify(window);
purifier.addHook('afterSanitizeAttributes', (node) => {
  if (node.hasAttribute('class') && !CLASS.test(node.className)) node.removeAttribute('class');
  if (node.localName !== 'a') return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer nofollow');
});

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
function sanitise(html) {
  return purifier.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ['href', 'title', 'start', 'align', 'class'],
    ALLOWED_URI_REGEXP: LINK,
    ADD_URI_SAFE_ATTR: ['start', 'align'], // the rest but title and class must look like a link
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}

/**
 * @typedef {object} Block one top-level block as it stands in the DOM
 * @property {string} html what it was made from
 * @property {HTMLElement} element
 * @property {{lang: string, value: string, node: Text}|null} code set for code, which grows by appending
 */

/** @param {Token} token */
const visible = (token) => token.type !== 'space' && token.type !== 'def';

export class MarkdownStream {
  #root;
  #text = '';
  #return = false;
  /** Characters and blocks that no later text can change. */
  #frozen = { chars: 0, blocks: 0 };
  /** @type {Block[]} */
  #blocks = [];
  /** @type {number|null} the length of #text when it was last drawn, if its end is inside a fence */
  #fence = null;
  /** @type {Lexer['tokens']['links']} links defined in frozen text */
  #links = Object.create(null);

  /** @param {HTMLElement} root becomes the holder of one element a block */
  constructor(root) {
    this.#root = root;
  }

  get text() {
    return this.#text;
  }

  /**
   * Takes text without drawing it.
   * @param {string} delta
   */
  append(delta) {
    // Line ends are made alike as marked would, but before it, so that a token's length is its length in #text.
    const text = this.#return && delta.startsWith('\n') ? delta.slice(1) : delta;
    this.#return = delta.endsWith('\r') || (delta === '' && this.#return);
    this.#text += text.replace(/\r\n?/g, '\n');
  }

  /** Draws what has been taken so far. */
  render() {
    if (this.#growCode()) return;
    const tail = this.#text.slice(this.#frozen.chars);
    const lexer = this.#lexer();
    lexer.tokens.links = Object.assign(Object.create(null), this.#links);
    const tokens = lexer.lex(tail);
    this.#draw(tokens.filter(visible), this.#frozen.blocks);
    this.#freeze(tokens, tail.length, lexer.tokens.links);
    this.#fence = openFence(tokens.at(-1)) ? this.#text.length : null;
  }

  /** Draws the end: exactly what the whole text gives. */
  finish() {
    this.#draw(this.#lexer().lex(this.#text).filter(visible), 0);
  }

  /**
   * Inside a fence nothing but another fence has a meaning: other text is appended without any lexing.
   * @returns {boolean} whether that was all there was to do
   */
  #growCode() {
    const code = this.#fence === null ? null : this.#blocks.at(-1)?.code;
    const added = this.#text.slice(this.#fence ?? 0);
    if (!code || /[`~]/.test(added)) return false;
    const end = (code.value.slice(-1) + added).slice(-2);
    const upTo = added.length - (/[^\n]\n/.test(end) ? 1 : 0); // a line end after text may still be the closing fence's
    code.node.appendData(added.slice(0, upTo));
    code.value += added.slice(0, upTo);
    this.#fence = (this.#fence ?? 0) + upTo;
    return true;
  }

  #lexer() {
    return new Lexer(engine.defaults);
  }

  /**
   * @param {Token[]} tokens
   * @param {number} from index of the block that the first token is
   */
  #draw(tokens, from) {
    tokens.forEach((token, index) => this.#place(token, from + index));
    for (const block of this.#blocks.splice(from + tokens.length)) block.element.remove();
  }

  /**
   * @param {Token} token
   * @param {number} index
   */
  #place(token, index) {
    const old = this.#blocks[index];
    if (token.type === 'code' && old?.code && grow(old.code, /** @type {Tokens.Code} */ (token))) return;
    const html = String(new Parser(engine.defaults).parse([token]));
    if (old && old.html === html && !old.code) return;
    const element = old?.element ?? document.createElement('div');
    element.className = 'block';
    element.replaceChildren(sanitise(html));
    const code = token.type === 'code' ? dress(element, /** @type {Tokens.Code} */ (token)) : null;
    frame(element);
    if (!old) this.#root.append(element);
    this.#blocks[index] = { html, element, code };
  }

  /**
   * @param {Token[]} tokens
   * @param {number} length of the text they were made from
   * @param {Lexer['tokens']['links']} links
   */
  #freeze(tokens, length, links) {
    if (tokens.reduce((sum, token) => sum + token.raw.length, 0) !== length) return; // lengths we cannot trust
    const seen = tokens.map((token, index) => (visible(token) ? index : -1)).filter((index) => index >= 0);
    const end = seen.at(-2);
    if (end === undefined || end === 0) return;
    const done = tokens.slice(0, end);
    this.#frozen.chars += done.reduce((sum, token) => sum + token.raw.length, 0);
    this.#frozen.blocks += done.filter(visible).length;
    this.#links = links;
  }
}

/**
 * @param {Token|undefined} token the last one
 * @returns {boolean} whether it is code whose fence, without indentation, is still open and whose text is all there
 */
function openFence(token) {
  if (token?.type !== 'code') return false;
  const { raw, text } = /** @type {Tokens.Code} */ (token);
  const [opening = ''] = /^(?:```+|~~~+)[^\n]*\n/.exec(raw) ?? [];
  return opening !== '' && raw === opening + text;
}

/**
 * Grows code in place: no parsing, no new nodes, the reader's selection stays.
 * @param {NonNullable<Block['code']>} code
 * @param {Tokens.Code} token
 * @returns {boolean} whether it could
 */
function grow(code, token) {
  const value = token.text;
  if ((token.lang ?? '') !== code.lang || !value.startsWith(code.value)) return false;
  if (value.length > code.value.length) code.node.appendData(value.slice(code.value.length));
  code.value = value;
  return true;
}

/**
 * Gives a code block its bar: the language's name and a copy button (the message view listens).
 * @param {HTMLElement} element
 * @param {Tokens.Code} token
 * @returns {Block['code']}
 */
function dress(element, token) {
  const pre = element.querySelector('pre');
  const holder = pre?.querySelector('code') ?? pre;
  if (!pre || !holder) return null;
  const node = document.createTextNode(token.text);
  holder.replaceChildren(node);
  const bar = document.createElement('div');
  const name = document.createElement('span');
  const copy = document.createElement('button');
  bar.className = 'code-bar';
  name.textContent = (token.lang ?? '').split(/\s/, 1)[0] || 'text';
  copy.type = 'button';
  copy.className = 'copy-code';
  copy.textContent = strings.copy;
  bar.append(name, copy);
  element.classList.add('code');
  element.prepend(bar);
  return { lang: token.lang ?? '', value: token.text, node };
}

/**
 * Lets wide code and tables scroll by themselves, by keyboard too.
 * @param {HTMLElement} element
 */
function frame(element) {
  for (const pre of element.querySelectorAll('pre')) pre.tabIndex = 0;
  for (const table of element.querySelectorAll('table')) {
    const box = document.createElement('div');
    box.className = 'table-box';
    box.tabIndex = 0;
    table.replaceWith(box);
    box.append(table);
  }
}

/**
 * Renders a whole text at once.
 * @param {HTMLElement} root
 * @param {string} text
 */
export function renderMarkdown(root, text) {
  root.replaceChildren();
  const stream = new MarkdownStream(root);
  stream.append(text);
  stream.finish();
}
