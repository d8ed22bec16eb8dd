/**
 * A list of any length of which only what can be seen, and OVER rows around it, is in the document. Every item has a known height, so
 * that the place of each is a sum; an item that did not change keeps its element, and with it focus and what is being typed.
 */

import { element } from '../dom.js';

/** @typedef {{key: string, sign: string, height: number, draw: () => HTMLElement}} Item `sign` changes when it must be drawn anew */

const OVER = 30;

export class LongList {
  #scroller;
  #inner = element('div', 'long');
  /** @type {Item[]} */ #items = [];
  /** @type {number[]} */ #tops = [];
  /** @type {Map<string, {sign: string, element: HTMLElement}>} */ #drawn = new Map();
  #waiting = false;
  /** The item that keeps its element whatever happens. @type {string|null} */ held = null;

  /** @param {HTMLElement} scroller @param {string} label */
  constructor(scroller, label) {
    this.#scroller = scroller;
    this.#inner.setAttribute('role', 'list');
    this.#inner.ariaLabel = label;
    scroller.append(this.#inner);
    scroller.addEventListener('scroll', () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#soon()).observe(scroller);
  }

  /** @param {Item[]} items */
  show(items) {
    this.#items = items;
    let top = 0;
    this.#tops = items.map(({ height }) => (top += height) - height);
    this.#inner.style.height = `${top}px`;
    this.#render();
  }

  /** Every item's, in order. @returns {string[]} */
  get keys() {
    return this.#items.map(({ key }) => key);
  }

  /** Hidden, none of it is in the document: what is shown instead may be of the same conversations. @param {boolean} value */
  set hidden(value) {
    if (value === this.#inner.hidden) return;
    this.#inner.hidden = value;
    this.#drawn.clear();
    this.#inner.replaceChildren();
    if (!value) this.#render();
  }

  /** @param {string} key @returns {HTMLElement|null} its element, scrolled to */
  reveal(key) {
    const index = this.#items.findIndex((item) => item.key === key);
    if (index < 0) return null;
    const [top, height] = [this.#tops[index] ?? 0, this.#items[index]?.height ?? 0];
    const { scrollTop, clientHeight } = this.#scroller;
    if (top < scrollTop) this.#scroller.scrollTop = top;
    else if (top + height > scrollTop + clientHeight) this.#scroller.scrollTop = top + height - clientHeight;
    this.#render();
    return this.#drawn.get(key)?.element ?? null;
  }

  /** @param {string} key @returns {HTMLElement|null} */
  at(key) {
    return this.#drawn.get(key)?.element ?? null;
  }

  #soon() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => ((this.#waiting = false), this.#render()));
  }

  #render() {
    if (this.#inner.hidden) return;
    const { scrollTop, clientHeight } = this.#scroller;
    const wanted = new Map();
    const [from, to] = [this.#index(scrollTop) - OVER, this.#index(scrollTop + clientHeight) + OVER];
    const focused = document.activeElement?.closest('[data-key]')?.getAttribute('data-key');
    this.#items.forEach((item, index) => {
      if ((index >= from && index <= to) || item.key === this.held || item.key === focused) wanted.set(item.key, index);
    });
    for (const [key, { element: old }] of this.#drawn) {
      if (wanted.has(key)) continue;
      old.remove();
      this.#drawn.delete(key);
    }
    /** @type {Element|null} */
    let before = null;
    for (const index of wanted.values()) before = this.#place(/** @type {Item} */ (this.#items[index]), index, before);
  }

  /** @param {Item} item @param {number} index @param {Element|null} before the element above */
  #place(item, index, before) {
    const known = this.#drawn.get(item.key);
    let shown = known?.element;
    if (!shown || (known?.sign !== item.sign && item.key !== this.held)) {
      shown = this.#draw(item, known?.element);
      this.#drawn.set(item.key, { sign: item.sign, element: shown });
    }
    shown.style.transform = `translateY(${this.#tops[index]}px)`;
    shown.ariaSetSize = String(this.#items.length);
    shown.ariaPosInSet = String(index + 1);
    const next = before ? before.nextElementSibling : this.#inner.firstElementChild;
    if (next !== shown) this.#inner.insertBefore(shown, next);
    return shown;
  }

  /** @param {Item} item @param {HTMLElement|undefined} old */
  #draw(item, old) {
    const drawn = item.draw();
    drawn.setAttribute('role', 'listitem');
    drawn.dataset.key = item.key;
    drawn.classList.add('item');
    drawn.style.height = `${item.height}px`;
    if (!old) return drawn;
    const focused = old.contains(document.activeElement) ? document.activeElement?.className : null;
    old.replaceWith(drawn);
    if (focused) /** @type {HTMLElement|null} */ (drawn.querySelector(`.${focused.split(' ')[0]}`) ?? drawn.querySelector('button'))?.focus();
    return drawn;
  }

  /** @param {number} y @returns {number} the item there */
  #index(y) {
    let [low, high] = [0, this.#tops.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#tops[middle] ?? 0) <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
