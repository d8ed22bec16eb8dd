/**
 * One message in the list: its element, its growing text, the footer that it gets at the end, and what is asked where it was cut.
 *
 * What a message says is plain data (`MessageData`), changed by `fold`, which needs no page: a message that is out of the page keeps
 * only that, and an element made from it later is the one that would have been there. `acts` is the slot of its buttons (actions.js).
 */

import { fill } from './actions.js';
import { attached } from './attached.js';
import { element, icon } from './dom.js';
import { Reply } from './reply.js';
import { statsLine } from './stats.js';
import { sayError, strings } from './strings.js';

/** @import {DeltaOp, FinishOp, InterruptedOp, MessageOp, Provider, SiblingsOp} from './protocol.js' */

/**
 * All that is known of a message.
 * @typedef {Omit<MessageOp, 'type'> & {thought?: string, struck?: Struck[], cut?: {cloud: boolean}|null}} MessageData
 * @typedef {{text: string, provider: Provider|null}} Struck what was shown and begun anew; by whom anew
 * @typedef {DeltaOp | FinishOp | InterruptedOp | SiblingsOp} ChangeOp
 */

/**
 * Changes what is known of a message by what came for it.
 * @param {MessageData} data
 * @param {ChangeOp} op
 */
export function fold(data, op) {
  if (op.type === 'delta') append(data, op);
  else if (op.type === 'finish') {
    const { type: _, id: __, ...end } = op;
    Object.assign(data, end, { provider: op.provider ?? data.provider, model: op.model ?? data.model, cut: null });
  } else if (op.type === 'interrupted') data.cut = { cloud: op.cloud };
  else data.siblings = { index: op.index, count: op.count };
}

/** @param {MessageData} data @param {DeltaOp} op */
function append(data, { delta, provider, segment = 0, restart = false, thought = '' }) {
  if (provider) data.provider = provider;
  if (restart) {
    data.struck = [...(data.struck ?? []), { text: data.text, provider: provider ?? null }];
    Object.assign(data, { text: '', segments: [] });
  } else if (segment > (data.segment ?? 0) && provider) {
    data.segments = [...(data.segments ?? []), { provider, atChars: data.text.length }];
  }
  data.segment = Math.max(segment, data.segment ?? 0);
  data.text += delta;
  if (thought) data.thought = (data.thought ?? '') + thought;
}

export class Message {
  #body = element('div', 'body');
  #reply = new Reply(this.#body);
  #data;
  #footer = element('footer');
  /** Where the buttons of a message stand. */
  acts = element('div', 'message-acts');
  #dirty = false;
  #over = false;

  /** @param {MessageData} data shown as it is now; changes come by `change` */
  constructor(data) {
    this.#data = data;
    this.element = element('li', 'message');
    Object.assign(this.element.dataset, { testid: 'message', id: data.id, role: data.role });
    this.element.append(element('h2', 'hidden', data.role === 'user' ? strings.you : strings.assistant), this.#body);
    this.#mark();
    if (data.attachments?.length) this.#body.before(attached(data.attachments));
    if (data.role === 'user') this.#body.textContent = data.text; // what a person typed is shown as it was typed
    else this.#shown();
    if (data.role === 'user') this.#end(this.acts);
    else if (data.state !== 'streaming') this.#finished();
    if (data.cut) this.#cut(data.cut.cloud);
  }

  /** All that is known of it. */
  get data() {
    return this.#data;
  }

  /** Whether text waits to be drawn. */
  get dirty() {
    return this.#dirty;
  }

  /** The text as the model wrote it, or the person. */
  get text() {
    return this.#data.text;
  }

  /** @param {ChangeOp} op which `fold` has taken already */
  change(op) {
    if (op.type === 'delta') this.#delta(op);
    else if (op.type === 'finish') this.#finished();
    else if (op.type === 'interrupted') this.#cut(op.cloud);
    if (op.type !== 'delta') fill(this.acts, this.#data);
  }

  /**
   * Draws what waits.
   * @param {number} [until] on performance.now's clock (ms)
   */
  draw(until) {
    this.#dirty = !(this.#over ? this.#reply.finish(until) : this.#reply.render(until));
  }

  /** What there is of a reply from before. */
  #shown() {
    const { segments = [], thought, text, state, provider } = this.#data;
    const struck = struckOf(this.#data);
    for (const before of struck) {
      this.#reply.append(before.text);
      this.#strike();
      this.#note(strings.restarted, before.provider, true);
    }
    if (thought) this.#reply.think(thought);
    this.#reply.append(text);
    for (const segment of segments) if (segment.atChars > 0) this.#seam(segment.atChars, segment.provider);
    if (!segments.length && (this.#data.segment ?? 0) > struck.length && provider) this.#note(strings.continued, provider, false);
    this.#dirty = state === 'streaming' && text !== '';
  }

  /** @param {DeltaOp} op */
  #delta({ delta, provider = null, segment = 0, restart = false, thought = '' }) {
    const before = Number(this.element.dataset.segments) - 1;
    this.#mark();
    if (restart) {
      this.#strike();
      this.#note(strings.restarted, provider, true);
    } else if (segment > before && provider) this.#seam(this.#data.text.length - delta.length, provider);
    if (thought) this.#reply.think(thought);
    if (delta) this.#reply.append(delta);
    this.#dirty = delta !== '' || thought !== '' || this.#dirty;
  }

  /** The end: the rest of the text, figures, or what went wrong. */
  #finished() {
    const { error, state } = this.#data;
    this.#over = true;
    this.draw(performance.now());
    this.#mark();
    this.element.querySelector('.cut')?.remove();
    const line = statsLine({ ...this.#data });
    this.#end(...(error && state === 'error' ? [problem(sayError(error))] : []), line, this.acts);
  }

  /** @param {...Element} parts of the footer */
  #end(...parts) {
    fill(this.acts, this.#data);
    this.#footer.replaceChildren(...parts);
    this.element.append(this.#footer);
  }

  /** @param {boolean} cloud asks what becomes of an answer that was cut off; whoever hears the clicks reads `data-act` */
  #cut(cloud) {
    const box = element('div', 'cut');
    const buttons = element('div', 'acts');
    buttons.append(act('resume-local', strings.resumeHere, 'local'));
    if (cloud) buttons.append(act('resume-cloud', strings.finishInCloud, 'cloud'));
    buttons.append(act('keep', strings.keepAsIs));
    box.append(element('p', '', this.text ? strings.cut : strings.cutAtOnce), buttons);
    box.role = 'group';
    box.ariaLabel = strings.cutLabel;
    this.element.dataset.interrupted = '';
    this.element.querySelector('.cut')?.remove();
    this.element.append(box);
  }

  #mark() {
    const { dataset } = this.element;
    const { state, provider, segment = 0, segments = [] } = this.#data;
    dataset.state = state;
    if (provider) dataset.provider = provider;
    dataset.segments = String(Math.max(segment, struckOf(this.#data).length, segments.filter(({ atChars }) => atChars > 0).length) + 1);
    if (this.#data.role !== 'user') this.#body.setAttribute('aria-busy', String(state === 'streaming'));
  }

  /** What was shown stays to be read, but no longer counts. */
  #strike() {
    this.#reply.finish();
    const struck = element('del', 'struck');
    const thought = this.#body.previousElementSibling;
    this.#body.before(struck);
    if (thought?.matches('.reasoning')) struck.append(thought);
    struck.append(this.#body);
    this.#body.removeAttribute('aria-busy');
    this.#body = element('div', 'body');
    this.#reply = new Reply(this.#body);
    struck.after(this.#body);
  }

  /**
   * Another provider goes on from here: a mark in the text, and a note under it.
   * @param {number} at characters before it
   * @param {Provider} provider
   */
  #seam(at, provider) {
    this.#reply.mark(at, provider);
    this.#note(strings.continued, provider, false);
  }

  /**
   * @param {Record<Provider, string>} said
   * @param {Provider|null} provider
   * @param {boolean} anew before the text that it begins anew, else under the text that it continues
   */
  #note(said, provider, anew) {
    const note = element('p', 'handover', provider ? said[provider] : '');
    note.prepend(icon(provider ?? 'cloud'));
    if (anew) this.#body.before(note);
    else if (this.#footer.isConnected) this.#footer.before(note);
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

/**
 * What was shown and begun anew: as it was seen here, or as the account of the answer keeps it (`parts` of its figures).
 * @param {MessageData} data
 * @returns {Struck[]}
 */
function struckOf({ struck, stats }) {
  const parts = /** @type {{struck?: boolean, text?: string, provider?: Provider}[]} */ (Reflect.get(stats ?? {}, 'parts') ?? []);
  return struck ?? parts.flatMap((part, index) => (part.struck && part.text ? [{ text: part.text, provider: parts[index + 1]?.provider ?? null }] : []));
}

/** @param {string} text */
function problem(text) {
  const line = element('p', 'problem');
  line.append(icon('alert'), element('span', '', text));
  return line;
}
