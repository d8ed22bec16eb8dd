/** One message in the list: its element, its growing text, and the footer that it gets at the end. */

import { element, icon } from './dom.js';
import { MarkdownStream } from './markdown.js';
import { statsLine } from './stats.js';
import { strings } from './strings.js';

/** @import {DeltaOp, FinishOp, MessageOp, Provider} from './protocol.js' */

export class Message {
  #body = element('div', 'body');
  #stream = new MarkdownStream(this.#body);
  #segment = 0;
  #dirty = false;

  /** @param {MessageOp} op */
  constructor({ id, role, text, state, provider = null, model = null }) {
    this.role = role;
    this.model = model;
    this.element = element('li', 'message');
    Object.assign(this.element.dataset, { testid: 'message', id, role });
    this.element.append(element('h2', 'hidden', role === 'user' ? strings.you : strings.assistant), this.#body);
    this.#mark(state, provider);
    this.#stream.append(text);
    if (role === 'user') this.#body.textContent = text; // what a person typed is shown as it was typed
    else if (state === 'streaming') this.#dirty = text !== '';
    else this.#stream.finish();
  }

  /** Whether text waits to be drawn. */
  get dirty() {
    return this.#dirty;
  }

  /** @param {DeltaOp} op */
  delta({ delta, provider = null, segment = 0 }) {
    if (provider) this.element.dataset.provider = provider;
    if (segment > this.#segment) this.#handover(segment, provider);
    if (!delta) return;
    this.#stream.append(delta);
    this.#dirty = true;
  }

  draw() {
    this.#dirty = false;
    this.#stream.render();
  }

  /** @param {FinishOp} op */
  finish(op) {
    this.#dirty = false;
    this.#stream.finish();
    this.#mark(op.state, op.provider ?? null);
    this.element.querySelector('footer')?.remove();
    const footer = element('footer');
    if (op.error && op.state === 'error') footer.append(problem(op.error.message));
    footer.append(statsLine({ ...op, model: op.model ?? this.model }));
    this.element.append(footer);
  }

  /** The text as the model wrote it. */
  get text() {
    return this.#stream.text;
  }

  /**
   * @param {MessageOp['state']} state
   * @param {Provider|null} provider
   */
  #mark(state, provider) {
    const { dataset } = this.element;
    dataset.state = state;
    if (provider) dataset.provider = provider;
    dataset.segments = String(this.#segment + 1);
    this.#body.setAttribute('aria-busy', String(state === 'streaming'));
  }

  /**
   * Says in the text's margin that another provider goes on from here.
   * @param {number} segment
   * @param {Provider|null} provider
   */
  #handover(segment, provider) {
    this.#segment = segment;
    this.element.dataset.segments = String(segment + 1);
    const note = element('p', 'handover', provider ? strings.continued[provider] : '');
    note.prepend(icon(provider ?? 'cloud'));
    this.element.append(note);
  }
}

/** @param {string} text */
function problem(text) {
  const line = element('p', 'problem');
  line.append(icon('alert'), element('span', '', text));
  return line;
}
