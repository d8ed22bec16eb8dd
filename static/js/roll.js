/**
 * A long list of which only what is near the viewport is in the page: at most MOST rows, however many there are.
 *
 * Rows that are away leave their height as a margin before the next row that is there (or as padding at the end), measured when
 * they were seen, guessed before. A row stays while it has the focus or an end of the selection. What a guess was wrong
 * by moves nothing that is in sight: follow.js sees to that. Assistive technology is told of each row which of how many it is.
 *
 * Coming into the page costs time (markdown), so rows in sight come at once and those around them a few milliseconds' worth a frame.
 */

import { nextFrame } from './dom.js';

/** Rows in the page at most. */
export const MOST = 60;
/** Viewports' heights of rows kept ready on each side, and how near their end may come before more are made ready. */
const READY = 1.5;
const NEAR = 0.75;
/** Milliseconds a frame for rows that are not in sight yet. */
const SLICE = 8;

/**
 * @typedef {object} Row
 * @property {string} id
 * @property {number} height in px: as it was seen last, or a guess
 * @property {() => HTMLElement} show its element, made if there is none
 * @property {() => void} hide it has left the page
 */

export class Roll {
  #list;
  #scroller;
  /** @type {Row[]} */
  #rows = [];
  /** @type {Map<Row, HTMLElement>} rows in the page */
  #shown = new Map();
  /** @type {WeakMap<Element, Row>} */
  #rowOf = new WeakMap();
  #observer = new ResizeObserver((entries) => this.#measured(entries));
  #planned = false;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} scroller
   */
  constructor(list, scroller) {
    this.#list = list;
    this.#scroller = scroller;
    scroller.addEventListener('scroll', () => this.#plan(), { passive: true });
    new ResizeObserver(() => this.#plan()).observe(scroller);
  }

  /** All rows, in order. @returns {readonly Row[]} */
  get rows() {
    return this.#rows;
  }

  /** @param {Row} row */
  isShown(row) {
    return this.#shown.has(row);
  }

  /** @param {Element} element in a row @returns {Row|undefined} */
  rowOf(element) {
    const holder = element.closest('[aria-posinset]');
    return holder ? this.#rowOf.get(holder) : undefined;
  }

  /**
   * Replaces all rows and shows the end.
   * @param {Row[]} rows
   */
  open(rows) {
    for (const row of [...this.#shown.keys()]) this.#take(row);
    this.#rows = rows;
    this.#around(rows.length - 1);
  }

  /** @param {Row} row becomes the last */
  add(row) {
    this.#rows.push(row);
    this.#show([...this.#shown.keys(), row]);
    this.#plan();
  }

  /** @param {Row[]} rows are gone */
  remove(rows) {
    for (const row of rows) if (this.#shown.has(row)) this.#take(row);
    this.#rows = this.#rows.filter((row) => !rows.includes(row));
    this.#show([...this.#shown.keys()]);
    this.#plan();
  }

  /**
   * Brings a row into the page.
   * @param {Row} row
   * @returns {HTMLElement|undefined} its element; the caller scrolls
   */
  bring(row) {
    if (!this.#shown.has(row)) this.#around(this.#rows.indexOf(row));
    return this.#shown.get(row);
  }

  /** @param {number} index of the row that will be in sight, wherever the scroller is now */
  #around(index) {
    if (!this.#rows.length) return this.#show([]);
    const starts = this.#starts();
    const height = this.#scroller.clientHeight || innerHeight;
    const middle = starts[index] ?? 0;
    this.#show(this.#rows.filter((_, i) => Math.abs((starts[i] ?? 0) - middle) < height || i === index).slice(-MOST));
    this.#plan();
  }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    nextFrame(() => {
      this.#planned = false;
      this.#update();
    });
  }

  /** What is in sight comes into the page, what is far leaves it. */
  #update() {
    const starts = this.#starts();
    const { scrollTop: top, clientHeight: height } = this.#scroller;
    const within = (/** @type {number} */ screens) => this.#span(starts, top - screens * height, top + (1 + screens) * height);
    const [seen, near, ready] = [within(0), within(NEAR), within(READY)];
    const all = (/** @type {[number, number]} */ [from, to]) => this.#rows.slice(from, to);
    if (all(near).every((row) => this.#shown.has(row)) && this.#shown.size <= MOST) return;
    const wanted = new Set([...all(seen), ...all(ready).sort(byDistance(this.#rows, seen))].slice(0, MOST - 3));
    const kept = new Set([...wanted, ...this.#held()]);
    const end = performance.now() + SLICE;
    const [least, most] = seen;
    const come = [...wanted].filter((row, i) => this.#shown.has(row) || i < most - least || (performance.now() < end && row.show()));
    this.#show([...come, ...[...this.#shown.keys()].filter((row) => kept.has(row))]);
    if (come.length < wanted.size) this.#plan();
  }

  /** @returns {Row[]} those that a person would miss */
  #held() {
    const { anchorNode = null, focusNode = null, isCollapsed = true } = getSelection() ?? {};
    const nodes = [document.activeElement, ...(isCollapsed ? [] : [anchorNode, focusNode])];
    const rows = nodes.map((node) => {
      const element = node instanceof Element ? node : node?.parentElement;
      return element && this.#list.contains(element) ? this.rowOf(element) : undefined;
    });
    return rows.filter((row) => row !== undefined);
  }

  /**
   * Makes these, in order, the rows in the page.
   * @param {Row[]} rows
   */
  #show(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#shown.keys()]) if (!wanted.has(row)) this.#take(row);
    const starts = this.#starts();
    let cursor = this.#list.firstElementChild;
    let next = 0;
    const place = (/** @type {Row} */ row, /** @type {number} */ index) => {
      const element = this.#shown.get(row) ?? this.#enter(row);
      if (element === cursor) cursor = cursor.nextElementSibling;
      else this.#list.insertBefore(element, cursor);
      const away = (starts[index] ?? 0) - (starts[next] ?? 0);
      element.style.marginBlockStart = away ? `${away}px` : '';
      element.setAttribute('aria-posinset', String(index + 1));
      element.setAttribute('aria-setsize', String(this.#rows.length));
      next = index + 1;
    };
    this.#rows.forEach((row, index) => wanted.has(row) && place(row, index));
    const after = (starts.at(-1) ?? 0) - (starts[next] ?? 0);
    this.#list.style.setProperty('--after', `${after}px`);
  }

  /** @param {Row} row */
  #enter(row) {
    const element = row.show();
    this.#shown.set(row, element);
    this.#rowOf.set(element, row);
    this.#observer.observe(element);
    return element;
  }

  /** @param {Row} row */
  #take(row) {
    const element = this.#shown.get(row);
    this.#shown.delete(row);
    if (element) this.#observer.unobserve(element);
    element?.remove();
    row.hide();
  }

  /** @param {ResizeObserverEntry[]} entries */
  #measured(entries) {
    for (const { target, borderBoxSize } of entries) {
      const row = this.#rowOf.get(target);
      if (row && this.#shown.has(row)) row.height = borderBoxSize[0]?.blockSize ?? row.height;
    }
    this.#plan();
  }

  /** @returns {number[]} where each row begins, the end last */
  #starts() {
    const gap = parseFloat(getComputedStyle(this.#list).rowGap) || 0;
    const starts = [0];
    let end = 0;
    for (const row of this.#rows) starts.push((end += row.height + gap));
    return starts;
  }

  /**
   * @param {number[]} starts
   * @param {number} from px
   * @param {number} to px
   * @returns {[number, number]} the rows between, by index, the second exclusive
   */
  #span(starts, from, to) {
    const first = starts.findIndex((_, i) => (starts[i + 1] ?? Infinity) > from);
    const last = starts.findIndex((start) => start >= to);
    const count = this.#rows.length;
    return [Math.min(first, Math.max(count - 1, 0)), last < 0 ? count : Math.min(last, count)];
  }
}

/**
 * @param {readonly Row[]} rows
 * @param {[number, number]} seen
 * @returns {(a: Row, b: Row) => number} the nearest to what is in sight first
 */
function byDistance(rows, [from, to]) {
  const index = new Map(rows.map((row, i) => [row, i]));
  const far = (/** @type {Row} */ row) => Math.max(from - (index.get(row) ?? 0), (index.get(row) ?? 0) - to, 0);
  return (a, b) => far(a) - far(b);
}
