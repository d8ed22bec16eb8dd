/**
 * The message view: draws `view` ops. What a message says is kept as data for all of them; only those near the viewport are in the
 * page (roll.js). Deltas only mark a message; all that came is drawn once a frame, a slice at a time, and less often when drawing gets
 * dear (a long open block), so that drawing never takes more than about a quarter of the thread.
 *
 * The list says `follow` (follow.js hears it) when it wants to be at its end, or away from it.
 */

import { nextFrame, element } from './dom.js';
import { mark } from './found.js';
import { Message, fold } from './message.js';
import { Roll } from './roll.js';
import { sayError, strings } from './strings.js';

/** @import {ChangeOp, MessageData} from './message.js' */
/** @import {MessageOp, ViewOp} from './protocol.js' */

/** Milliseconds of a frame for drawing. */
const SLICE = 10;

/** One row of the list: its data always, its element while somebody may see it. */
class Entry {
  /** @type {Message|null} */
  message = null;

  /** @param {MessageData} data @param {(message: Message) => void} made it waits to be drawn */
  constructor(data, made) {
    this.data = data;
    this.made = made;
    this.id = data.id;
    this.height = guess(data);
  }

  show() {
    if (!this.message) {
      this.message = new Message(this.data);
      this.made(this.message);
    }
    return this.message.element;
  }

  hide() {
    if (this.data.state !== 'streaming') this.message = null;
  }
}

/** @param {MessageData} data @returns {number} px, before it was ever seen */
function guess({ role, text }) {
  const lines = text.length / 80 + (text.slice(0, 20_000).match(/\n/g)?.length ?? 0) * 0.7 + 1;
  return Math.round(Math.min(lines, 5000) * 26 + (role === 'user' ? 50 : 70));
}

export class MessageView {
  #list;
  #announce;
  #onDraw;
  #roll;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<Message>} */
  #dirty = new Set();
  #scheduled = false;

  /**
   * @param {HTMLElement} list inside its scroller
   * @param {(text: string) => void} announce says a change of state to assistive technology, never a token
   * @param {(act: string, id: string) => void} [onAct] a button of a message's own was pressed
   * @param {() => void} [onDraw] what came is about to be shown
   */
  constructor(list, announce, onAct = () => {}, onDraw = () => {}) {
    this.#list = list;
    this.#announce = announce;
    this.#onDraw = onDraw;
    this.#roll = new Roll(list, list.parentElement ?? list);
    list.addEventListener('click', (event) => void copyCode(event));
    list.addEventListener('click', (event) => acted(event, onAct));
    document.addEventListener('copy', (event) => this.#copy(event));
  }

  get empty() {
    return this.#entries.size === 0;
  }

  /** Whether some messages are not in the page. */
  get partial() {
    return this.#roll.rows.some((row) => !this.#roll.isShown(row));
  }

  /** What all messages say, in order, whether they are in the page or not. @returns {MessageData[]} */
  get messages() {
    return [...this.#entries.values()].map(({ data }) => data);
  }

  /** @param {ViewOp} op */
  apply(op) {
    if (op.type === 'delta' || op.type === 'finish' || op.type === 'interrupted' || op.type === 'siblings') this.#change(op);
    else if (op.type === 'message') this.#add(op);
    else if (op.type === 'open') this.#open(op.messages);
    else if (op.type === 'remove') this.#remove(op.ids);
    else if (op.type === 'reveal') this.reveal(op.id, op.find ?? '');
    else if (op.type === 'clear') this.#open([]);
  }

  /**
   * Scrolls to a message, and marks words in it.
   * @param {string} id
   * @param {string} [find]
   * @param {number} [which] of the places where they are is scrolled to; -1 is the last
   * @returns {number} how many such places there are
   */
  reveal(id, find = '', which = 0) {
    const entry = this.#entries.get(id);
    const shown = entry && this.#roll.bring(entry);
    if (!entry || !shown) return 0;
    this.#list.dispatchEvent(new CustomEvent('follow', { detail: false }));
    while (entry.message?.dirty) entry.message.draw();
    const { range, count } = find ? mark(shown, find, which) : { range: null, count: 0 };
    const target = range?.startContainer.parentElement ?? shown;
    target.closest('details')?.setAttribute('open', '');
    target.scrollIntoView({ block: range ? 'center' : 'start' });
    if (!range) flash(shown);
    return count;
  }

  /** @param {MessageOp[]} messages */
  #open(messages) {
    this.#dirty.clear();
    this.#entries = new Map(messages.map((one) => [one.id, this.#entry(one)]));
    this.#roll.open([...this.#entries.values()]);
    this.#list.dispatchEvent(new CustomEvent('follow', { detail: true }));
  }

  /** @param {MessageOp} op */
  #entry({ type: _, ...data }) {
    return new Entry(data, (message) => message.dirty && this.#schedule(message));
  }

  /** @param {MessageOp} op */
  #add(op) {
    this.#remove([op.id]);
    const entry = this.#entry(op);
    this.#entries.set(op.id, entry);
    this.#roll.add(entry);
    if (op.state === 'streaming') this.#announce(strings.answering);
  }

  /** @param {ChangeOp} op */
  #change(op) {
    const entry = this.#entries.get(op.id);
    if (!entry) return;
    fold(entry.data, op);
    entry.message?.change(op);
    if (entry.message?.dirty) this.#schedule(entry.message);
    else if (entry.message) this.#dirty.delete(entry.message);
    if (op.type === 'finish' && entry.message && !this.#roll.isShown(entry)) entry.message = null;
    this.#say(op);
  }

  /** @param {ChangeOp} op */
  #say(op) {
    if (op.type === 'interrupted') this.#announce(strings.cutLabel);
    if (op.type !== 'finish') return;
    const said = { done: strings.answered, stopped: strings.stopped, error: strings.failed }[op.state];
    this.#announce(op.state === 'error' && op.error ? `${said}: ${sayError(op.error)}` : said);
  }

  /** @param {string[]} ids */
  #remove(ids) {
    const gone = ids.flatMap((id) => this.#entries.get(id) ?? []);
    if (!gone.length) return;
    for (const entry of gone) {
      this.#entries.delete(entry.id);
      if (entry.message) this.#dirty.delete(entry.message);
    }
    this.#roll.remove(gone);
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
    for (const message of this.#dirty) {
      if (message.element.isConnected) message.draw(start + SLICE);
      if (!message.dirty || !message.element.isConnected) this.#dirty.delete(message);
      if (performance.now() > start + SLICE) break;
    }
    const spent = performance.now() - start;
    const rest = () => {
      this.#scheduled = false;
      const [waiting] = this.#dirty;
      if (waiting) this.#schedule(waiting);
    };
    if (spent > SLICE + 5) setTimeout(rest, spent * 3);
    else rest();
  }

  /**
   * A selection that reaches over messages which are not in the page is copied with them.
   * @param {ClipboardEvent} event
   */
  #copy(event) {
    const selection = getSelection();
    if (!selection?.rangeCount || selection.isCollapsed) return;
    const range = selection.getRangeAt(0);
    const inside = (/** @type {Node} */ node) => this.#list.contains(node) && (node instanceof Element ? node : node.parentElement);
    const [from, to] = [inside(range.startContainer), inside(range.endContainer)];
    const rows = this.#roll.rows;
    const row = (/** @type {Element|false|null} */ node) => rows.findIndex((one) => node && one === this.#roll.rowOf(node));
    const first = from ? row(from) : range.comparePoint(this.#list, 0) >= 0 ? 0 : -1;
    const last = to ? row(to) : first >= 0 && range.intersectsNode(this.#list) ? rows.length - 1 : -1;
    const between = rows.slice(first, last + 1);
    if (first < 0 || last < first || between.every((one) => this.#roll.isShown(one))) return;
    const texts = between.map((one) => /** @type {Entry} */ (one).data.text);
    event.clipboardData?.setData('text/plain', texts.join('\n\n'));
    event.preventDefault();
  }
}

/** @param {MouseEvent} event @param {(act: string, id: string) => void} onAct */
function acted(event, onAct) {
  const button = event.target instanceof Element ? event.target.closest('[data-act]') : null;
  const message = button?.closest('.message');
  if (button instanceof HTMLElement && message instanceof HTMLElement) onAct(button.dataset.act ?? '', message.dataset.id ?? '');
}

/** @param {MouseEvent} event */
async function copyCode(event) {
  const button = event.target instanceof Element ? event.target.closest('.copy-code:not([aria-pressed])') : null;
  const code = button?.closest('.code')?.querySelector('pre');
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

/** @param {HTMLElement} shown is the one that was looked for */
function flash(shown) {
  shown.classList.add('shown');
  setTimeout(() => shown.classList.remove('shown'), 2000);
}

/**
 * Says short sentences in a live region, the latest only.
 * @param {HTMLElement} region
 * @returns {(text: string) => void}
 */
export function announcer(region) {
  return (text) => region.replaceChildren(element('span', '', text));
}
