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
  /** @type {Map<HTMLElement, () => void>} */
  #gone = new Map();

  /** @param {HTMLElement} region a polite live region */
  constructor(region) {
    this.#region = region;
  }

  /**
   * @param {string} kind 'fallback', 'handover', 'error', 'warning', 'info' ...
   * @param {string} text
   * @param {{text: string, run: () => void, gone?: () => void}} [act] a button, such as to undo; `gone`: the toast went without it
   */
  show(kind, text, act) {
    const toast = element('div', 'toast');
    const close = element('button', 'close');
    toast.dataset.testid = 'toast';
    toast.dataset.kind = kind;
    close.type = 'button';
    close.ariaLabel = strings.close;
    close.append(icon('close'));
    close.addEventListener('click', () => this.#drop(toast));
    toast.append(icon(ICONS[kind] ?? 'info'), element('p', '', text), close);
    if (act) this.#offer(toast, act);
    this.#region.append(toast);
    for (const old of this.#all().slice(0, -MOST)) this.#drop(old);
    if (kind !== 'error') this.#expire(toast);
  }

  /** @param {boolean} value whether an answer is under way */
  hold(value) {
    this.#held = value;
    for (const toast of this.#timers.keys()) this.#time(toast);
  }

  /** @param {HTMLElement} toast @param {{text: string, run: () => void, gone?: () => void}} act */
  #offer(toast, { text, run, gone }) {
    const button = element('button', 'do', text);
    button.type = 'button';
    button.dataset.testid = 'toast-act';
    if (gone) this.#gone.set(toast, gone);
    button.addEventListener('click', () => {
      this.#gone.delete(toast);
      this.#drop(toast);
      run();
    });
    toast.querySelector('p')?.append(' ', button);
  }

  #all() {
    return /** @type {HTMLElement[]} */ ([...this.#region.children]);
  }

  /** @param {HTMLElement} toast */
  #drop(toast) {
    clearTimeout(this.#timers.get(toast));
    this.#timers.delete(toast);
    toast.remove();
    this.#gone.get(toast)?.();
    this.#gone.delete(toast);
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
