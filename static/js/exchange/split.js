/**
 * Takes a long JSON text apart while it comes: the elements of its list, one at a time, so that a file of any length costs the memory of
 * its longest conversation, and a damaged element costs only itself.
 *
 * The list is the text itself (`[...]`), or the first member of the object that LISTS names; all else of the object is its `header`. An
 * object without such a list is one element, its header.
 */

/** Members of an object that hold what is looked for. */
const LISTS = new Set(['conversations', 'chats', 'items', 'data']);
const MEMBER = /"([^"\\]*)"\s*:\s*$/;
const [QUOTE, COMMA, SLASH, OPEN, CLOSE, BEGIN, END] = [34, 44, 92, 91, 93, 123, 125];

/** @typedef {{index: number, at: number, text: string|null}} Element `at`: characters before it; no text: it was longer than allowed */

export class Splitter {
  #most;
  #depth = 0;
  #string = false;
  #escaped = false;
  /** The depth of the list's elements, once there is a list. */ #base = 0;
  #inside = false;
  #before = 0; // characters of earlier chunks
  #index = 0;
  #begun = -1; // where the element under way began
  #from = 0; // what of this chunk is not put away yet
  #element = new Text();
  #header = new Text();
  /** Whether the text came to its end. */ whole = false;
  /** Whether it is JSON by its first letter. */ json = true;
  /** @type {Element[]} */ #found = [];

  /** @param {number} most characters of one element, and of the header */
  constructor(most) {
    this.#most = most;
  }

  /** Whether there was nothing but space. */
  get empty() {
    return this.#depth === 0 && !this.whole;
  }

  /** Whether a list was found. */
  get listed() {
    return this.#base > 0;
  }

  /** What was cut off in the middle. @returns {{index: number, at: number}|null} */
  get rest() {
    return this.#begun < 0 ? null : { index: this.#index, at: this.#begun };
  }

  /** All but the list's elements. @returns {string|null} null where it is too long */
  get header() {
    return this.#header.size > this.#most ? null : this.#header.value;
  }

  /** @param {string} chunk @returns {Element[]} what is whole by now */
  feed(chunk) {
    this.#found = [];
    this.#from = 0;
    for (let i = 0; i < chunk.length && this.json && !this.whole; i += 1) {
      const code = chunk.charCodeAt(i);
      if (this.#string) this.#quoted(code);
      else if (code > 32) this.#step(code, chunk, i);
    }
    if (this.#inside) this.#begun < 0 || this.#element.add(chunk.slice(this.#from), this.#most);
    else if (!this.whole) this.#header.add(chunk.slice(this.#from), this.#most);
    this.#before += chunk.length;
    return this.#found;
  }

  /** @param {number} code of a character inside a string */
  #quoted(code) {
    if (this.#escaped) this.#escaped = false;
    else if (code === SLASH) this.#escaped = true;
    else if (code === QUOTE) this.#string = false;
  }

  /** @param {number} code @param {string} chunk @param {number} i */
  #step(code, chunk, i) {
    if (this.#depth === 0) return this.#start(code);
    const between = this.#inside && this.#depth === this.#base;
    if (between && code === CLOSE) return this.#close(chunk, i);
    if (between && code === COMMA) return this.#end(chunk, i);
    if (between && code === END) return; // one brace too many: its element cannot be read, but those after it can
    if (between && this.#begun < 0) [this.#begun, this.#from] = [this.#before + i, i];
    if (code === QUOTE) this.#string = true;
    else if (code === BEGIN || code === OPEN) this.#open(code, chunk, i);
    else if (code === END || code === CLOSE) this.#shut(chunk, i);
  }

  /** @param {number} code of the text's first character */
  #start(code) {
    this.json = code === OPEN || code === BEGIN;
    this.#depth = 1;
    if (code === OPEN) [this.#base, this.#inside] = [1, true];
  }

  /** @param {number} code @param {string} chunk @param {number} i */
  #open(code, chunk, i) {
    this.#depth += 1;
    if (this.#base || code !== OPEN || this.#depth !== 2) return;
    const name = MEMBER.exec(this.#header.tail + chunk.slice(Math.max(this.#from, i - 64), i))?.[1] ?? '';
    if (!LISTS.has(name)) return;
    this.#header.add(chunk.slice(this.#from, i + 1), this.#most);
    [this.#base, this.#inside] = [2, true];
  }

  /** @param {string} chunk @param {number} i */
  #shut(chunk, i) {
    this.#depth -= 1;
    if (this.#depth > 0) return;
    this.whole = true;
    if (!this.#inside) this.#header.add(chunk.slice(this.#from, i + 1), this.#most);
  }

  /** The list is at its end. @param {string} chunk @param {number} i */
  #close(chunk, i) {
    this.#end(chunk, i);
    this.#inside = false;
    this.#from = i;
    this.#depth -= 1;
    if (this.#depth === 0) this.whole = true;
  }

  /** An element is at its end. @param {string} chunk @param {number} i */
  #end(chunk, i) {
    if (this.#begun < 0) return;
    this.#element.add(chunk.slice(this.#from, i), this.#most);
    this.#found.push({ index: this.#index, at: this.#begun, text: this.#element.size > this.#most ? null : this.#element.value });
    this.#element = new Text();
    this.#index += 1;
    this.#begun = -1;
  }
}

/** A text that grows, and is let go of where it gets too long. */
class Text {
  /** @type {string[]} */ #parts = [];
  /** Its end, a little of it. */ tail = '';
  size = 0;

  /** @param {string} text @param {number} most */
  add(text, most) {
    this.size += text.length;
    this.tail = (this.tail + text.slice(-64)).slice(-64);
    if (this.size > most) this.#parts = [];
    else this.#parts.push(text);
  }

  get value() {
    return this.#parts.join('');
  }
}
