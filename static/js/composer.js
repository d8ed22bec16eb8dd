/**
 * The composer. Enter sends, Shift+Enter breaks the line (on touch, Enter breaks and the button sends), and an input method's
 * Enter is never taken for a send. What was typed before the page was ready is kept; sent too early, it goes out when it is. A draft survives a reload of its tab.
 */

import { strings } from './strings.js';

const DRAFT = 'hybr:draft';

/**
 * @typedef {object} ComposerParts
 * @property {HTMLFormElement} form
 * @property {HTMLTextAreaElement} input
 * @property {HTMLButtonElement} send
 * @property {HTMLButtonElement} stop
 * @property {HTMLElement} hint a live region below the input
 * @property {(text: string) => void} onSend
 * @property {() => void} onStop
 */

export class Composer {
  #parts;
  #usual;
  #ready = false;
  #busy = false;
  #queued = false;

  /** @param {ComposerParts} parts */
  constructor(parts) {
    this.#parts = parts;
    this.#usual = parts.hint.textContent ?? '';
    parts.form.addEventListener('submit', (event) => (event.preventDefault(), this.submit()));
    parts.stop.addEventListener('click', () => parts.onStop());
    parts.input.addEventListener('keydown', (event) => this.#key(event));
    parts.input.addEventListener('input', () => this.#edited());
    parts.input.value ||= kept() ?? '';
    this.#fit();
  }

  /** @param {string} text */
  fill(text) {
    this.#parts.input.value = text;
    this.#edited();
    this.#parts.input.focus();
  }

  /** The core answers: what waits goes out. */
  ready() {
    this.#ready = true;
    if (!this.#queued) return;
    this.#queued = false;
    this.submit();
  }

  /** @param {boolean} value whether an answer is under way */
  busy(value) {
    const { form, send, stop, input } = this.#parts;
    const focused = document.activeElement === (value ? send : stop);
    this.#busy = value;
    form.dataset.busy = String(value);
    stop.hidden = !value;
    send.hidden = value;
    if (focused) (value ? stop : input).focus(); // a hidden button loses focus to nowhere
    if (!value) this.#say(this.#usual);
  }

  submit() {
    const { input, onSend } = this.#parts;
    const text = input.value.trim();
    if (!text) return this.#refuse(strings.empty);
    if (this.#busy) return this.#refuse(strings.busy);
    if (!this.#ready) {
      this.#queued = true;
      return this.#say(strings.queued);
    }
    input.value = '';
    this.#edited();
    onSend(text);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key === 'Escape' && this.#busy) this.#parts.onStop();
    if (event.key !== 'Enter' || event.shiftKey || composing || matchMedia('(pointer: coarse)').matches) return;
    event.preventDefault();
    this.submit();
  }

  #edited() {
    this.#queued = false;
    keep(this.#parts.input.value);
    this.#parts.input.removeAttribute('aria-invalid');
    this.#say(this.#usual);
    this.#fit();
  }

  /** @param {string} text */
  #refuse(text) {
    this.#parts.input.setAttribute('aria-invalid', 'true');
    this.#parts.input.focus();
    this.#say(text);
  }

  /** @param {string} text */
  #say(text) {
    if (this.#parts.hint.textContent !== text) this.#parts.hint.textContent = text;
  }

  /** Grows the input with its text where CSS cannot (`field-sizing`). */
  #fit() {
    const { input } = this.#parts;
    if (CSS.supports('field-sizing', 'content')) return;
    input.style.height = 'auto';
    input.style.height = `${input.scrollHeight}px`;
  }
}

/** @returns {string|null} the draft of this tab */
function kept() {
  try {
    return sessionStorage.getItem(DRAFT);
  } catch {
    return null; // storage is denied: drafts last as long as the page
  }
}

/** @param {string} text */
function keep(text) {
  try {
    if (text) sessionStorage.setItem(DRAFT, text);
    else sessionStorage.removeItem(DRAFT);
  } catch {
    // As above.
  }
}
