/**
 * Toasts: short notices that come, are announced, and go. Errors stay until they are dismissed; the others wait while the
 * pointer or the focus is on them, and while an answer is under way (they are mostly about it, and its reader looks elsewhere).
 * At most MOST at a time; the oldest go first.
 */

import { element, icon } from './dom.js';
import { strings } from './strings.js';

const MOST = 4;
const SECONDS = 20;
const ICONS = /** @type {Record<string, string>} */ ({ error: 'alert', warning: 'alert', fallback: 'cloud', handover: 'cloud' });

export class Toasts {
  #region;
  #held = false;
  /** @type {Map<HTMLElement, ReturnType<typeof setTimeout>>} */
  #timers = new Map();

  /** @param {HTMLElement} region a polite live region */
  constructor(region) {
    this.#region = region;
  }

  /**
   * @param {string} kind 'fallback', 'handover', 'error', 'warning', 'info' ...
   * @param {string} text
   */
  show(kind, text) {
    const toast = element('div', 'toast');
    const close = element('button', 'close');
    toast.dataset.testid = 'toast';
    toast.dataset.kind = kind;
    close.type = 'button';
    close.ariaLabel = strings.close;
    close.append(icon('close'));
    close.addEventListener('click', () => this.#drop(toast));
    toast.append(icon(ICONS[kind] ?? 'info'), element('p', '', text), close);
    this.#region.append(toast);
    for (const old of this.#all().slice(0, -MOST)) this.#drop(old);
    if (kind !== 'error') this.#expire(toast);
  }

  /** @param {boolean} value whether an answer is under way */
  hold(value) {
    this.#held = value;
    for (const toast of this.#timers.keys()) this.#time(toast);
  }

  #all() {
    return /** @type {HTMLElement[]} */ ([...this.#region.children]);
  }

  /** @param {HTMLElement} toast */
  #drop(toast) {
    clearTimeout(this.#timers.get(toast));
    this.#timers.delete(toast);
    toast.remove();
  }

  /** @param {HTMLElement} toast */
  #expire(toast) {
    this.#time(toast);
    for (const event of ['pointerleave', 'focusout']) toast.addEventListener(event, () => this.#time(toast));
    for (const event of ['pointerenter', 'focusin']) toast.addEventListener(event, () => clearTimeout(this.#timers.get(toast)));
  }

  /** @param {HTMLElement} toast */
  #time(toast) {
    clearTimeout(this.#timers.get(toast));
    this.#timers.set(toast, setTimeout(() => this.#held || this.#drop(toast), SECONDS * 1000));
  }
}
