/**
 * Where the list of conversations stands: a column that can be folded away, and on narrower screens a drawer over the page that keeps
 * the focus until it is closed. The button for a new chat is in the column's head while that is open, and in the page's header else.
 */

import { assignStored, readStored } from '../stored.js';

/**
 * @typedef {object} FrameParts
 * @property {HTMLElement} root
 * @property {HTMLButtonElement} toggle
 * @property {HTMLButtonElement} close
 * @property {HTMLElement} scrim
 * @property {HTMLElement} fresh the button for a new chat
 * @property {HTMLElement} head where it stands in the column
 */

/** What cannot be reached while the drawer is open. */
const BEHIND = '.skip, .top, #chat, #panel-root';

export class Frame {
  #parts;
  #narrow = matchMedia('(width < 68.75rem)');
  #home;

  /** @param {FrameParts} parts */
  constructor(parts) {
    this.#parts = parts;
    this.#home = { parent: parts.fresh.parentElement, next: parts.fresh.nextElementSibling };
    parts.toggle.addEventListener('click', () => this.set(!this.open));
    parts.close.addEventListener('click', () => this.set(false));
    parts.scrim.addEventListener('click', () => this.narrow && this.set(false));
    parts.root.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.narrow || event.defaultPrevented) return;
      event.stopPropagation();
      this.set(false);
    });
    this.#narrow.addEventListener('change', () => this.#draw(this.narrow ? false : wanted()));
    this.#draw(!this.narrow && wanted());
  }

  get narrow() {
    return this.#narrow.matches;
  }

  get open() {
    return document.body.dataset.history === 'open';
  }

  /** @param {boolean} open */
  set(open) {
    if (open === this.open) return;
    if (!this.narrow) assignStored('history', { open });
    this.#draw(open);
    if (this.narrow) (open ? this.#parts.close : this.#parts.toggle).focus();
    else if (!open) this.#parts.toggle.focus();
  }

  /** On a narrow screen what was chosen is behind the drawer. */
  leave() {
    if (this.narrow) this.set(false);
  }

  /** @param {boolean} open */
  #draw(open) {
    const { root, toggle, fresh, head } = this.#parts;
    const over = open && this.narrow;
    document.body.dataset.history = open ? 'open' : 'closed';
    toggle.setAttribute('aria-expanded', String(open));
    for (const behind of document.querySelectorAll(BEHIND)) behind.toggleAttribute('inert', over);
    root.inert = !open;
    root.role = over ? 'dialog' : 'complementary';
    root.ariaModal = over ? 'true' : null;
    if (open && !this.narrow) head.prepend(fresh);
    else if (fresh.parentElement === head) this.#home.parent?.insertBefore(fresh, this.#home.next);
  }
}

/** @returns {boolean} whether the person wants the column */
const wanted = () => /** @type {{open?: unknown}|undefined} */ (readStored().history)?.open !== false;
