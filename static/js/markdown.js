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
 *
 * Time: `render` and `finish` draw what a slice allows and say whether that was all; the caller comes back in the next frame. Text
 * beyond LONGEST is shown as it is. What libraries add (colours of code, formulas, diagrams) is put on blocks that are done.
 */

import { Lexer, Marked, Parser } from '../vendor/marked/marked.esm.js';
import DOMPurify from '../vendor/dompurify/purify.es.mjs';
import { dress, extend, grow, language, nested, openFence } from './codeblock.js';
import { colour } from './colour.js';
import { patch } from './patch.js';
import { extensions, setFormulas } from './tex.js';

/** @import {Token, Tokens} from 'marked' */
/** @import {Code} from './codeblock.js' */

const LINK = /^(?:https?:|mailto:)/i;
const TAGS = ('p br hr h1 h2 h3 h4 h5 h6 em strong del code pre blockquote ul ol li a '
  + 'table thead tbody tr th td sup sub kbd').split(' ');
/** What models write for want of Markdown's own (a line break in a table's cell, a raised letter) and can do nothing; all other HTML is text. */
const HARMLESS = /^<(?:br\s*\/?|\/?(?:sub|sup|kbd))>$/i;
const CLASS = /^(?:language-[\w+#.-]+|math-(?:inline|block))$/;
/** Characters drawn as Markdown at most; five megabytes of table are nothing that anybody reads. */
const LONGEST = 400_000;
/** Characters of one block (a table, a list) beyond which it is shown as text: drawing it again and again would hold up the page. */
const HUGE = 100_000;
/** Characters of code, or of text that is too long for Markdown, in one piece of layout. */
const PIECE = 8_000;
/** Blocks in one section. */
const SECTION = 32;
/** Characters that are drawn at once however long it takes, so that a usual reply is whole in the frame in which it came. */
const AT_ONCE = 2_500;

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const engine = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text, block }) => (HARMLESS.test(text.trim()) ? text : block ? `<p>${escape(text)}</p>` : escape(text)),
    image: ({ href, text }) => {
      const label = escape(text || href);
      return LINK.test(href) ? `<a href="${escape(href)}">${label}</a>` : label;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
  extensions,
});

const purifier = DOMPurify(window);
purifier.addHook('afterSanitizeAttributes', (node) => {
  if (node.hasAttribute('class') && !CLASS.test(node.className)) node.removeAttribute('class');
  if (node.localName !== 'a') return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer nofollow');
});

purifier.setConfig({ // once: reading it costs more than most blocks do
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ['href', 'title', 'start', 'align', 'class'],
  ALLOWED_URI_REGEXP: LINK,
  ADD_URI_SAFE_ATTR: ['start', 'align'], // the rest but title and class must look like a link
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
});

/** @param {string} html @returns {DocumentFragment} */
const sanitise = (html) => /** @type {any} */ (purifier.sanitize(html));

/**
 * @typedef {object} Block one top-level block as it stands in the DOM
 * @property {string} html what it was made from
 * @property {HTMLElement} element
 * @property {number} marks how many marks stand in it
 * @property {Code|null} code set for code, which grows by appending
 * @property {boolean} done its code is coloured, or about to be
 *
 * @typedef {{tokens: Token[], from: number, start: number, next: number}} Work visible and other tokens from character `start` on,
 *   the first being block `from`; `next` is the one to draw
 */

/** @param {Token} token */
const visible = (token) => token.type !== 'space' && token.type !== 'def';

export class MarkdownStream {
  #root;
  #text = '';
  /** What is beyond LONGEST. */
  #rest = '';
  /** @type {HTMLElement[]} where that is shown */
  #plain = [];
  #return = false;
  /** Characters and blocks that no later text can change. */
  #frozen = { chars: 0, blocks: 0 };
  /** @type {Block[]} */
  #blocks = [];
  /** @type {number|null} the length of #text when it was last drawn, if its end is inside a fence */
  #fence = null;
  /** @type {Lexer['tokens']['links']} links defined in frozen text */
  #links = Object.create(null);
  /** @type {{at: number, make: () => Element}[]} */
  #marks = [];
  /** @type {Work|null} the end, as far as it is drawn */
  #ending = null;

  /** @param {HTMLElement} root becomes the holder of one element a block */
  constructor(root) {
    this.#root = root;
  }

  get text() {
    return this.#text + this.#rest;
  }

  /**
   * Takes text without drawing it.
   * @param {string} delta
   */
  append(delta) {
    // Line ends are made alike as marked would, but before it, so that a token's length is its length in #text.
    const text = this.#return && delta.startsWith('\n') ? delta.slice(1) : delta;
    this.#return = delta.endsWith('\r') || (delta === '' && this.#return);
    const same = text.replace(/\r\n?/g, '\n');
    const room = LONGEST - this.#text.length;
    this.#text += same.slice(0, room);
    this.#rest += same.slice(room);
  }

  /**
   * Puts a mark into the text: where it stands in the DOM is found by counting letters, so that it never changes what is read.
   * @param {number} at characters before it
   * @param {() => Element} make
   */
  mark(at, make) {
    this.#marks.push({ at, make });
  }

  /**
   * Draws what has been taken so far.
   * @param {number} [until] on performance.now's clock (ms)
   * @returns {boolean} whether that is all
   */
  render(until = Infinity) {
    this.#drawRest();
    if (this.#growCode()) return true;
    const tail = this.#text.slice(this.#frozen.chars);
    const lexer = this.#lexer();
    lexer.tokens.links = Object.assign(Object.create(null), this.#links);
    const tokens = lexer.lex(tail);
    const work = { tokens, from: this.#frozen.blocks, start: this.#frozen.chars, next: 0 };
    const whole = this.#draw(work, until);
    this.#freeze(work, tail.length, lexer.tokens.links);
    this.#fence = whole && openFence(tokens.at(-1)) ? this.#text.length : null;
    return whole;
  }

  /**
   * Draws the end: exactly what the whole text gives.
   * @param {number} [until] on performance.now's clock (ms)
   * @returns {boolean} whether that is all
   */
  finish(until = Infinity) {
    this.#drawRest();
    this.#ending ??= this.#end();
    if (!this.#draw(this.#ending, until)) return false;
    for (const block of this.#blocks) this.#done(block);
    return true;
  }

  /** @returns {Work} the whole where a link's definition may reach back, else what may still change */
  #end() {
    const lexer = this.#lexer();
    const tokens = lexer.lex(this.#text.slice(this.#frozen.chars));
    if (!Object.keys(this.#links).length && !Object.keys(lexer.tokens.links).length) {
      return { tokens, from: this.#frozen.blocks, start: this.#frozen.chars, next: 0 };
    }
    return { tokens: this.#lexer().lex(this.#text), from: 0, start: 0, next: 0 };
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
    extend(code, added.slice(0, upTo));
    this.#fence = (this.#fence ?? 0) + upTo;
    return true;
  }

  #lexer() {
    return new Lexer(engine.defaults);
  }

  /**
   * @param {Work} work
   * @param {number} until
   * @returns {boolean} whether it came to the end
   */
  #draw(work, until) {
    let [drawn, index, start] = [0, work.from, work.start];
    let before = start;
    for (const [i, token] of work.tokens.entries()) {
      const end = start + token.raw.length;
      if (visible(token)) {
        if (i >= work.next) drawn += this.#place(token, index, before, end);
        index += 1;
        before = end;
      }
      start = end;
      work.next = Math.max(work.next, i + 1);
      if (drawn > AT_ONCE && performance.now() > until && work.next < work.tokens.length) return false;
    }
    this.#drop(this.#blocks.splice(index));
    return true;
  }

  /**
   * @param {Token} token
   * @param {number} index
   * @param {number} start where the text begins that is its or before it
   * @param {number} end
   * @returns {number} characters drawn
   */
  #place(token, index, start, end) {
    const old = this.#blocks[index];
    const marks = this.#marks.filter(({ at }) => at > start && at <= end);
    const same = !old || old.marks === marks.length;
    if (same && token.type === 'code' && old?.code && grow(old.code, /** @type {Tokens.Code} */ (token), old.done)) return 0;
    const html = token.raw.length > HUGE && token.type !== 'code' ? '' : String(new Parser(engine.defaults).parse([token]));
    if (old && same && old.html === html && !old.code && html) return 0;
    const fresh = document.createElement('div');
    fresh.className = html ? 'block' : 'block plain';
    fresh.append(html ? sanitise(html) : token.raw);
    const code = token.type === 'code' ? dress(fresh, /** @type {Tokens.Code} */ (token)) : null;
    if (!code && html.includes('<pre')) nested(fresh);
    if (/<(?:table|pre)/.test(html)) frame(fresh);
    if (RTL.test(html) || document.dir === 'rtl') turn(fresh);
    for (const { at, make } of marks) insert(fresh, token.raw.slice(0, Math.max(at - (end - token.raw.length), 0)), make());
    if (html.includes('class="math-')) setFormulas(fresh);
    const element = old && !code && !old.code ? old.element : fresh; // code's text is its own to grow
    if (!old) this.#put(fresh, index);
    else if (element === fresh) old.element.replaceWith(fresh);
    else patch(element, fresh);
    this.#blocks[index] = { html, element, code, marks: marks.length, done: false };
    return token.raw.length;
  }

  /**
   * Blocks after the first few stand in sections, which are laid out only in sight: a browser looks after a few dozen of those with
   * ease, not after a thousand blocks one by one.
   * @param {HTMLElement} element
   * @param {number} index
   */
  #put(element, index) {
    const after = this.#plain[0] ?? null;
    if (index < SECTION) return this.#root.insertBefore(element, after);
    const first = this.#blocks[index - (index % SECTION)]?.element.parentElement;
    const section = index % SECTION && first ? first : document.createElement('div');
    section.className = 'section';
    section.append(element);
    if (section !== first) this.#root.insertBefore(section, after);
    return section;
  }

  /** @param {Block[]} blocks */
  #drop(blocks) {
    for (const { element } of blocks) {
      const section = element.parentElement;
      element.remove();
      if (section !== this.#root && !section?.childElementCount) section?.remove();
    }
  }

  /**
   * @param {Work} work
   * @param {number} length of the text its tokens were made from
   * @param {Lexer['tokens']['links']} links
   */
  #freeze({ tokens, next }, length, links) {
    if (tokens.reduce((sum, token) => sum + token.raw.length, 0) !== length) return; // lengths we cannot trust
    const seen = tokens.map((token, index) => (visible(token) ? index : -1)).filter((index) => index >= 0);
    const end = Math.min(seen.at(-2) ?? 0, next);
    if (end <= 0) return;
    const done = tokens.slice(0, end);
    this.#frozen.chars += done.reduce((sum, token) => sum + token.raw.length, 0);
    const blocks = this.#frozen.blocks + done.filter(visible).length;
    for (const block of this.#blocks.slice(this.#frozen.blocks, blocks)) this.#done(block);
    this.#frozen.blocks = blocks;
    this.#links = links;
  }

  /** @param {Block} block will not change any more */
  #done(block) {
    const { code, element, done } = block;
    if (done) return;
    block.done = true;
    if (code) colour(element, language(code.lang));
    else for (const inner of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll('.code'))) colour(inner, inner.dataset.lang ?? '');
  }

  /** What is too long for Markdown: as it is, in pieces of which only those in sight are laid out. */
  #drawRest() {
    while (this.#rest.length > this.#plain.reduce((sum, piece) => sum + (piece.textContent ?? '').length, 0)) {
      const shown = this.#plain.reduce((sum, piece) => sum + (piece.textContent ?? '').length, 0);
      const last = this.#plain.at(-1);
      const room = last ? PIECE - (last.textContent ?? '').length : 0;
      const piece = last && room > 0 ? last : document.createElement('div');
      piece.className = 'block plain';
      piece.append(this.#rest.slice(shown, shown + (room > 0 ? room : PIECE)));
      if (piece !== last) this.#plain.push(piece);
      this.#root.append(piece);
    }
  }
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

const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/**
 * Lists, quotations and tables stand on the side where their first word begins; paragraphs do so by CSS.
 * @param {HTMLElement} element
 */
function turn(element) {
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll('ul, ol, blockquote, .table-box'))) {
    one.dir = RTL.test(/\p{L}/u.exec(one.textContent ?? '')?.[0] ?? '') ? 'rtl' : 'ltr';
  }
}

/** @param {string} text how many letters and digits it has: what Markdown's own signs are not */
const letters = (text) => text.match(/[\p{L}\p{N}]/gu)?.length ?? 0;

/**
 * @param {HTMLElement} element a block
 * @param {string} source what of its source stands before the mark
 * @param {Element} mark
 */
function insert(element, source, mark) {
  const bar = element.querySelector(':scope > .code-bar span');
  if (bar) return bar.after(mark);
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let left = letters(source.replace(/<\/?(?:br|sub|sup|kbd)\s*\/?>/gi, ''));
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = /** @type {Text} */ (node);
    const here = letters(text.data);
    if (left > here) left -= here;
    else return place(text, left, source, mark);
  }
  element.append(mark);
}

/** @param {Text} text @param {number} left letters before the mark @param {string} source @param {Element} mark */
function place(text, left, source, mark) {
  const formula = text.parentElement?.closest('[class^="math-"]');
  if (formula) return formula.after(mark);
  let at = 0;
  for (let seen = 0; seen < left; at += 1) if (/[\p{L}\p{N}]/u.test(text.data[at] ?? 'x')) seen += 1;
  const behind = /[^\p{L}\p{N}]*$/u.exec(source)?.[0] ?? '';
  while (at < text.length && behind.includes(text.data[at] ?? '\0') && !/[\p{L}\p{N}]/u.test(text.data[at] ?? '')) at += 1;
  text.splitText(Math.min(at, text.length)).before(mark);
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
