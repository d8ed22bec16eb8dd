/**
 * A menu below a button, as the ARIA practices describe it: arrows, Home, End and first letters move, Enter and Space choose, Escape and
 * Tab close, focus goes back to where it came from. An item may lead to further ones, which take the menu's place.
 */

import { element, icon } from '../dom.js';

/**
 * @typedef {object} MenuItem
 * @property {string} label
 * @property {string} [icon]
 * @property {string} [testid]
 * @property {boolean} [checked] one of several that exclude each other
 * @property {boolean} [danger]
 * @property {boolean} [line] a line above it
 * @property {string} [key] the key that does the same
 * @property {() => void} [run]
 * @property {MenuItem[]} [items]
 */

/** @type {Menu|null} */
let shown = null;

/**
 * @param {HTMLElement} anchor the button, which gets aria-expanded
 * @param {string} label
 * @param {MenuItem[]} items
 * @param {{x: number, y: number}} [point] where a pointer asked for it
 */
export function openMenu(anchor, label, items, point) {
  shown?.close();
  shown = new Menu(anchor, label, items, point);
}

export class Menu {
  #anchor;
  #root = element('div', 'menu');
  #typed = '';
  #typedAt = 0;
  #away = (/** @type {Event} */ event) => this.#root.contains(/** @type {Node} */ (event.target)) || this.close(false);

  /** @param {HTMLElement} anchor @param {string} label @param {MenuItem[]} items @param {{x: number, y: number}} [point] */
  constructor(anchor, label, items, point) {
    this.#anchor = anchor;
    Object.assign(this.#root, { role: 'menu', ariaLabel: label, popover: 'manual' });
    this.#root.dataset.testid = 'menu';
    this.#root.addEventListener('keydown', (event) => this.#key(event));
    document.body.append(this.#root);
    this.#root.showPopover();
    anchor.setAttribute('aria-expanded', 'true');
    this.#show(items);
    this.#place(point);
    for (const name of ['pointerdown', 'resize', 'blur']) addEventListener(name, this.#away);
  }

  /** @param {boolean} [back] whether focus goes back to the button */
  close(back = true) {
    for (const name of ['pointerdown', 'resize', 'blur']) removeEventListener(name, this.#away);
    this.#root.remove();
    this.#anchor.setAttribute('aria-expanded', 'false');
    if (shown === this) shown = null;
    if (back) this.#anchor.focus();
  }

  /** @param {MenuItem[]} items */
  #show(items) {
    this.#root.replaceChildren(...items.flatMap((item) => this.#row(item)));
    this.#all()[0]?.focus();
  }

  /** @param {MenuItem} item */
  #row(item) {
    const row = element('button', item.danger ? 'choice danger' : 'choice');
    Object.assign(row, { type: 'button', tabIndex: -1, role: item.checked === undefined ? 'menuitem' : 'menuitemradio' });
    if (item.checked !== undefined) row.ariaChecked = String(item.checked);
    if (item.items) row.ariaHasPopup = 'menu';
    if (item.testid) row.dataset.testid = item.testid;
    row.append(icon(item.checked ? 'check' : (item.icon ?? 'none')), element('span', 'name', item.label));
    if (item.key) row.append(element('kbd', '', item.key));
    if (item.items) row.append(icon('next'));
    row.addEventListener('click', () => this.#choose(item));
    row.addEventListener('pointerenter', () => row.focus({ preventScroll: true }));
    const line = element('hr');
    return item.line ? [line, row] : [row];
  }

  /** @param {MenuItem} item */
  #choose(item) {
    if (item.items) return this.#show(item.items);
    this.close();
    item.run?.();
  }

  #all() {
    return /** @type {HTMLElement[]} */ ([...this.#root.querySelectorAll('.choice')]);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const all = this.#all();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowDown: (at + 1) % all.length, ArrowUp: (at + all.length - 1) % all.length, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) all[to]?.focus();
    else if (event.key === 'Escape' || event.key === 'Tab') this.close();
    else if (event.key === 'ArrowRight' && all[at]?.ariaHasPopup) all[at]?.click();
    else if (event.key.length === 1 && event.key !== ' ' && !event.ctrlKey && !event.metaKey) this.#letter(event.key, all, at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} letter @param {HTMLElement[]} all @param {number} at */
  #letter(letter, all, at) {
    const now = performance.now();
    this.#typed = now - this.#typedAt < 700 ? this.#typed + letter.toLowerCase() : letter.toLowerCase();
    this.#typedAt = now;
    const order = [...all.slice(at + (this.#typed.length === 1 ? 1 : 0)), ...all];
    order.find((row) => row.textContent?.trim().toLowerCase().startsWith(this.#typed))?.focus();
  }

  /** @param {{x: number, y: number}} [point] */
  #place(point) {
    const box = this.#anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.#root;
    const rtl = getComputedStyle(document.documentElement).direction === 'rtl';
    const x = point ? point.x : rtl ? box.left : box.right - width;
    const y = point ? point.y : box.bottom + height + 12 > innerHeight ? box.top - height - 4 : box.bottom + 4;
    this.#root.style.left = `${Math.max(8, Math.min(point ? x : Math.max(x, 8), innerWidth - width - 8))}px`;
    this.#root.style.top = `${Math.max(8, Math.min(y, innerHeight - height - 8))}px`;
  }
}
