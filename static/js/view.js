/**
 * The message view: draws `view` ops. Deltas only mark a message; all that came is drawn once a frame, and less often when
 * drawing gets dear (a long open block), so that drawing never takes more than about a quarter of the thread.
 */

import { element } from './dom.js';
import { Message } from './message.js';
import { strings } from './strings.js';

/** @import {DeltaOp, FinishOp, InterruptedOp, MessageOp, ViewOp} from './protocol.js' */

export class MessageView {
  #list;
  #announce;
  #onDraw;
  /** @type {Map<string, Message>} */
  #messages = new Map();
  /** @type {Set<Message>} */
  #dirty = new Set();
  #scheduled = false;

  /**
   * @param {HTMLElement} list
   * @param {(text: string) => void} announce says a change of state to assistive technology, never a token
   * @param {(act: string, id: string) => void} [onAct] a button of a message's own was pressed
   * @param {() => void} [onDraw] what came is about to be shown
   */
  constructor(list, announce, onAct = () => {}, onDraw = () => {}) {
    this.#list = list;
    this.#announce = announce;
    this.#onDraw = onDraw;
    list.addEventListener('click', (event) => void copyCode(event));
    list.addEventListener('click', (event) => acted(event, onAct));
  }

  get empty() {
    return this.#messages.size === 0;
  }

  /** @param {ViewOp} op */
  apply(op) {
    if (op.type === 'delta') this.#delta(op);
    else if (op.type === 'message') this.#add(op);
    else if (op.type === 'finish') this.#finish(op);
    else if (op.type === 'interrupted') this.#interrupted(op);
    else if (op.type === 'clear') this.#clear();
  }

  /** @param {MessageOp} op */
  #add(op) {
    const message = new Message(op);
    this.#messages.get(op.id)?.element.remove();
    this.#messages.set(op.id, message);
    this.#list.append(message.element);
    if (message.dirty) this.#schedule(message);
    if (op.state === 'streaming') this.#announce(strings.answering);
  }

  /** @param {DeltaOp} op */
  #delta(op) {
    const message = this.#messages.get(op.id);
    message?.delta(op);
    if (message?.dirty) this.#schedule(message);
  }

  /** @param {FinishOp} op */
  #finish(op) {
    const message = this.#messages.get(op.id);
    if (!message) return;
    this.#dirty.delete(message);
    message.finish(op);
    const said = { done: strings.answered, stopped: strings.stopped, error: strings.failed }[op.state];
    this.#announce(op.state === 'error' && op.error ? `${said}: ${op.error.message}` : said);
  }

  /** @param {InterruptedOp} op */
  #interrupted(op) {
    this.#messages.get(op.id)?.interrupted(op);
    this.#announce(strings.cutLabel);
  }

  #clear() {
    this.#messages.clear();
    this.#dirty.clear();
    this.#list.replaceChildren();
  }

  /** @param {Message} message */
  #schedule(message) {
    this.#dirty.add(message);
    if (this.#scheduled) return;
    this.#scheduled = true;
    nextFrame(() => this.#draw());
  }

  #draw() {
    const start = performance.now();
    this.#onDraw();
    for (const message of this.#dirty) message.draw();
    this.#dirty.clear();
    const spent = performance.now() - start;
    const rest = () => {
      this.#scheduled = false;
      const [waiting] = this.#dirty;
      if (waiting) this.#schedule(waiting);
    };
    if (spent > 5) setTimeout(rest, spent * 3);
    else rest();
  }
}

/**
 * A hidden page gets no frames, but its reader comes back.
 * @param {() => void} draw
 */
function nextFrame(draw) {
  if (document.hidden) setTimeout(draw, 100);
  else requestAnimationFrame(draw);
}

/** @param {MouseEvent} event @param {(act: string, id: string) => void} onAct */
function acted(event, onAct) {
  const button = event.target instanceof Element ? event.target.closest('[data-act]') : null;
  const message = button?.closest('.message');
  if (button instanceof HTMLElement && message instanceof HTMLElement) onAct(button.dataset.act ?? '', message.dataset.id ?? '');
}

/** @param {MouseEvent} event */
async function copyCode(event) {
  const button = event.target instanceof Element ? event.target.closest('.copy-code') : null;
  const code = button?.closest('.block')?.querySelector('pre');
  if (!button || !code) return;
  await navigator.clipboard.writeText(code.textContent ?? '').catch(() => select(code));
  button.textContent = strings.copied;
  setTimeout(() => (button.textContent = strings.copy), 1500);
}

/**
 * Where the clipboard is refused, the code is at least selected.
 * @param {Element} node
 */
function select(node) {
  getSelection()?.selectAllChildren(node);
}

/**
 * Says short sentences in a live region, the latest only.
 * @param {HTMLElement} region
 * @returns {(text: string) => void}
 */
export function announcer(region) {
  return (text) => region.replaceChildren(element('span', '', text));
}
