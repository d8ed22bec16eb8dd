/**
 * The buttons of a message: to its siblings, copy, edit, answer again, go on, delete. A toolbar is one stop of the Tab key; the arrow
 * keys move within it. What they do is Python's (ui events in protocol.js); this asks what has to be asked before.
 */

import { element, icon } from './dom.js';
import { Overlay } from './overlay.js';
import { catalogue } from './strings.js';

/** @import {MessageData} from './message.js' */
/** @import {UiMessage} from './protocol.js' */
/** @import {MessageView} from './view.js' */

const words = catalogue.message;
/** How long a copy is acknowledged, ms. */
const COPIED_MS = 1500;

/**
 * Fills a message's slot with the buttons that it may have now.
 * @param {HTMLElement} slot
 * @param {MessageData} message
 */
export function fill(slot, message) {
  const { role, state, text, siblings } = message;
  if (state === 'streaming' || role === 'system') return slot.replaceChildren();
  const focused = slot.contains(document.activeElement) && document.activeElement?.getAttribute('data-act');
  slot.role = 'toolbar';
  slot.ariaLabel = words.actions;
  slot.replaceChildren(
    ...(siblings && siblings.count > 1 ? [steps(siblings)] : []),
    ...(text ? [button('copy', 'copy', words.copy), button('edit', 'pencil', words.edit)] : []),
    button('regenerate', 'again', role === 'user' ? words.answer : words.regenerate),
    ...(unfinished(message) ? [button('continue', 'go', words.goOn)] : []),
    button('delete', 'trash', words.remove),
  );
  const all = buttons(slot);
  for (const [index, one] of all.entries()) one.tabIndex = index ? -1 : 0;
  if (focused) all.find((one) => one.dataset.act === focused)?.focus();
}

/** @param {MessageData} message @returns {boolean} whether it may be gone on with: cut short, by whatever */
function unfinished({ role, state, text, stats, cut }) {
  return role === 'assistant' && !!text && !cut && (state !== 'done' || stats?.finishReason === 'length');
}

/** @param {{index: number, count: number}} siblings `< 2/3 >` */
function steps({ index, count }) {
  const box = element('span', 'siblings');
  const where = element('span', 'where', `${index + 1}/${count}`);
  where.ariaLabel = words.version(index + 1, count);
  where.role = 'img'; // so that the label is what is read
  const [before, after] = [button('previous', 'next', words.previous), button('next', 'next', words.next)];
  before.ariaDisabled = String(index === 0);
  after.ariaDisabled = String(index === count - 1);
  box.append(before, where, after);
  return box;
}

/** @param {string} act @param {string} symbol @param {string} label */
function button(act, symbol, label) {
  const made = element('button', 'message-act');
  made.type = 'button';
  made.dataset.act = act;
  made.dataset.testid = `message-${act}`;
  made.ariaLabel = made.title = label;
  made.append(icon(symbol));
  return made;
}

/** @param {Element} slot @returns {HTMLButtonElement[]} */
const buttons = (slot) => [...slot.querySelectorAll('button')];

/**
 * @typedef {object} ActionsParts
 * @property {MessageView} view
 * @property {HTMLElement} list
 * @property {HTMLElement} home where the focus goes when the button that had it is gone
 * @property {(message: UiMessage) => void} post
 * @property {(text: string) => void} announce
 */

export class Actions {
  #parts;
  #acted = false;
  /** @type {{at: number, act: string}|null} where the focus goes when the sibling is drawn */ #stepped = null;

  /** @param {ActionsParts} parts */
  constructor(parts) {
    this.#parts = parts;
    parts.list.addEventListener('keydown', (event) => move(event));
  }

  /**
   * @param {string} act of a button that was pressed
   * @param {string} id of its message
   * @returns {boolean} whether it is one of these
   */
  press(act, id) {
    const message = this.#parts.view.messages.find((one) => one.id === id);
    if (!message) return false;
    if (act === 'copy') void this.#copy(message);
    else if (act === 'edit') edit(message, (text) => this.#post({ kind: 'ui', event: 'edit', id, text }));
    else if (act === 'regenerate' || act === 'continue') this.#post({ kind: 'ui', event: act, id });
    else if (act === 'delete') this.#remove(id);
    else if (act === 'previous' || act === 'next') this.#step(act, message);
    else return false;
    return true;
  }

  /** Something was drawn: a focus whose button is gone goes to the same button of the sibling, or home. */
  drawn() {
    if (document.activeElement !== document.body || !(this.#stepped || this.#acted)) return;
    const { at, act } = this.#stepped ?? { at: -1, act: '' };
    const id = this.#parts.view.messages[at]?.id ?? '';
    const found = this.#parts.list.querySelector(`.message[data-id="${CSS.escape(id)}"] [data-act="${act}"]`);
    if (this.#stepped && !found) return; // not yet
    this.#stepped = null;
    this.#acted = false;
    (found instanceof HTMLElement ? found : this.#parts.home).focus();
  }

  /** @param {UiMessage} message */
  #post(message) {
    this.#acted = true;
    this.#parts.post(message);
  }

  /** @param {'previous'|'next'} act @param {MessageData} message */
  #step(act, { id, siblings }) {
    const { index, count } = siblings ?? { index: 0, count: 1 };
    const step = act === 'next' ? 1 : -1;
    if (index + step < 0 || index + step >= count) return;
    this.#stepped = { at: this.#parts.view.messages.findIndex((one) => one.id === id), act };
    this.#post({ kind: 'ui', event: 'branch', id, step });
    this.#parts.announce(words.version(index + step + 1, count));
  }

  /** @param {MessageData} message */
  async #copy({ id, text }) {
    const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
    this.#parts.announce(copied ? words.copied : words.notCopied);
    const slot = this.#parts.list.querySelector(`.message[data-id="${CSS.escape(id)}"] [data-act=copy]`);
    if (!copied || !slot) return;
    slot.replaceChildren(icon('check'));
    setTimeout(() => slot.replaceChildren(icon('copy')), COPIED_MS);
  }

  /** @param {string} id */
  #remove(id) {
    const post = (/** @type {'message'|'branch'} */ what) => this.#post({ kind: 'ui', event: 'delete', id, what });
    if (this.#parts.view.messages.at(-1)?.id === id) post('message');
    else ask(post);
  }
}

/** @param {KeyboardEvent} event the arrow keys, Home and End within a toolbar */
function move(event) {
  const slot = event.target instanceof Element ? event.target.closest('[role=toolbar]') : null;
  const ways = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  const way = ways[/** @type {keyof typeof ways} */ (event.key)];
  if (!slot || !way) return;
  const all = buttons(slot);
  const step = getComputedStyle(slot).direction === 'rtl' && Number.isFinite(way) ? -way : way;
  const at = all.indexOf(/** @type {HTMLButtonElement} */ (event.target)) + step;
  const next = all[Math.min(Math.max(at, 0), all.length - 1)];
  for (const one of all) one.tabIndex = one === next ? 0 : -1;
  next?.focus();
  event.preventDefault();
}

/**
 * Asks for another text of a message.
 * @param {MessageData} message
 * @param {(text: string) => void} done
 */
function edit({ role, text }, done) {
  const own = role === 'user';
  const title = own ? words.editTitle : words.editAnswer;
  const { overlay, form } = question('edit-message', title);
  const input = element('textarea', 'edit-text');
  input.dataset.testid = 'edit-text';
  input.ariaLabel = title;
  input.value = text;
  const say = element('p', 'edit-means', own ? words.editMeans : words.editAnswerMeans);
  const save = decide(own ? words.send : words.save, () => {
    if (!input.value.trim()) return input.focus();
    overlay.close();
    if (own || input.value !== text) done(input.value);
  });
  save.classList.add('strong');
  save.dataset.testid = 'edit-save';
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save.click();
  });
  form.append(input, say, row(decide(words.cancel, () => overlay.close()), save));
  overlay.open();
  input.focus();
  input.setSelectionRange(text.length, text.length);
}

/** @param {(what: 'message'|'branch') => void} done asks what is to be deleted of a message in the middle */
function ask(done) {
  const { overlay, form } = question('delete-message', words.removeTitle);
  const choice = (/** @type {'message'|'branch'} */ what, /** @type {string} */ text) => {
    const made = decide(text, () => (overlay.close(), done(what)));
    made.dataset.testid = `delete-${what}`;
    return made;
  };
  form.append(element('p', '', words.removeMeans));
  form.append(row(decide(words.cancel, () => overlay.close()), choice('branch', words.removeBranch), choice('message', words.removeOne)));
  overlay.open();
}

/** @param {string} name @param {string} title a dialog that is gone when it is closed */
function question(name, title) {
  const overlay = new Overlay(name, title);
  const form = element('div', 'question');
  overlay.dialog.append(overlay.head(title), form);
  overlay.dialog.addEventListener('close', () => overlay.dialog.remove());
  return { overlay, form };
}

/** @param {...HTMLElement} choices */
function row(...choices) {
  const made = element('div', 'acts');
  made.append(...choices);
  return made;
}

/** @param {string} text @param {() => void} run */
function decide(text, run) {
  const made = element('button', 'act', text);
  made.type = 'button';
  made.addEventListener('click', run);
  return made;
}
