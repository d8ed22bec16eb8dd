/** A dialog over the page that Escape, its close button and a click beside it close; focus returns to where it was. */

import { element, icon } from './dom.js';
import { strings } from './strings.js';

export class Overlay {
  /** @type {HTMLElement|null} */
  #before = null;

  /**
   * @param {string} name its data-testid, and the class it is styled by
   * @param {string} title what assistive technology calls it
   */
  constructor(name, title) {
    this.dialog = element('dialog', `overlay ${name}`);
    this.dialog.dataset.testid = name;
    this.dialog.ariaLabel = title;
    this.dialog.addEventListener('click', ({ target }) => target === this.dialog && this.close());
    this.dialog.addEventListener('close', () => this.#before?.focus());
    document.body.append(this.dialog);
  }

  open() {
    if (this.dialog.open) return;
    this.#before = /** @type {HTMLElement|null} */ (document.activeElement);
    this.dialog.showModal();
  }

  close() {
    this.dialog.close();
  }

  /** A row with the title and a button that closes. @param {string} title */
  head(title) {
    const head = element('header', 'overlay-head');
    const close = element('button', 'close');
    close.type = 'button';
    close.ariaLabel = strings.close;
    close.append(icon('close'));
    close.addEventListener('click', () => this.close());
    head.append(element('h2', '', title), close);
    return head;
  }
}
