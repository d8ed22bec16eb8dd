/** One message in the list: its element, its growing text, the footer that it gets at the end, and what is asked where it was cut. */

import { element, icon } from './dom.js';
import { MarkdownStream } from './markdown.js';
import { statsLine } from './stats.js';
import { strings } from './strings.js';

/** @import {DeltaOp, FinishOp, InterruptedOp, MessageOp, Provider} from './protocol.js' */

export class Message {
  #body = element('div', 'body');
  #stream = new MarkdownStream(this.#body);
  #segment = 0;
  #dirty = false;

  /** @param {MessageOp} op */
  constructor({ id, role, text, state, provider = null, model = null, segment = 0 }) {
    this.#segment = segment;
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
  delta({ delta, provider = null, segment = 0, restart = false }) {
    if (provider) this.element.dataset.provider = provider;
    if (restart) this.#strike();
    if (segment > this.#segment) this.#handover(segment, provider, restart);
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
    this.element.querySelector('.cut')?.remove();
    const footer = element('footer');
    if (op.error && op.state === 'error') footer.append(problem(op.error.message));
    footer.append(statsLine({ ...op, model: op.model ?? this.model }));
    this.element.append(footer);
  }

  /** @param {InterruptedOp} op asks what becomes of an answer that was cut off; whoever hears the clicks reads `data-act` */
  interrupted({ cloud }) {
    const box = element('div', 'cut');
    const buttons = element('div', 'acts');
    buttons.append(act('resume-local', strings.resumeHere, 'local'));
    if (cloud) buttons.append(act('resume-cloud', strings.finishInCloud, 'cloud'));
    buttons.append(act('keep', strings.keepAsIs));
    box.append(element('p', '', this.#stream.text ? strings.cut : strings.cutAtOnce), buttons);
    box.role = 'group';
    box.ariaLabel = strings.cutLabel;
    this.element.dataset.interrupted = '';
    this.element.querySelector('.cut')?.remove();
    this.element.append(box);
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

  /** What was shown stays to be read, but no longer counts. */
  #strike() {
    this.#stream.finish();
    const struck = element('del', 'struck');
    this.#body.before(struck);
    struck.append(this.#body);
    this.#body.removeAttribute('aria-busy');
    this.#body = element('div', 'body');
    this.#stream = new MarkdownStream(this.#body);
    struck.after(this.#body);
  }

  /**
   * Says that another provider goes on from here: before the text that it begins anew, under the text that it continues.
   * @param {number} segment
   * @param {Provider|null} provider
   * @param {boolean} anew
   */
  #handover(segment, provider, anew) {
    this.#segment = segment;
    this.element.dataset.segments = String(segment + 1);
    const said = anew ? strings.restarted : strings.continued;
    const note = element('p', 'handover', provider ? said[provider] : '');
    note.prepend(icon(provider ?? 'cloud'));
    if (anew) this.#body.before(note);
    else this.element.append(note);
  }
}

/**
 * @param {string} name of what it does
 * @param {string} text
 * @param {Provider} [side]
 */
function act(name, text, side) {
  const button = element('button', 'act', text);
  button.type = 'button';
  button.dataset.act = name;
  button.dataset.testid = name;
  if (side) button.prepend(icon(side));
  return button;
}

/** @param {string} text */
function problem(text) {
  const line = element('p', 'problem');
  line.append(icon('alert'), element('span', '', text));
  return line;
}
