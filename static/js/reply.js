/**
 * The text of one reply: what the model thought, folded, and what it says, as Markdown. Both stream. What is folded away is not drawn
 * before somebody opens it.
 */

import { element, icon } from './dom.js';
import { MarkdownStream } from './markdown.js';
import { duration } from './stats.js';
import { catalogue, strings } from './strings.js';
import { Thoughts } from './thoughts.js';

/** @import {Provider} from './protocol.js' */

export class Reply {
  #body;
  #stream;
  #split = new Thoughts();
  #text = '';
  /** @type {Folded|null} */
  #folded = null;
  #began = performance.now();

  /** @param {HTMLElement} body holds the blocks; what was thought goes before it */
  constructor(body) {
    this.#body = body;
    this.#stream = new MarkdownStream(body);
  }

  /** The text as the model wrote it, thoughts and tags included. */
  get text() {
    return this.#text;
  }

  /** What it says, without thoughts. */
  get said() {
    return this.#stream.text;
  }

  /** @param {string} delta */
  append(delta) {
    this.#text += delta;
    this.#take(this.#split.feed(delta));
  }

  /** @param {string} thought of a provider that tells it beside the text */
  think(thought) {
    this.#fold().append(thought);
  }

  /**
   * Marks where another provider went on.
   * @param {number} at characters of `text` before it
   * @param {Provider} provider
   */
  mark(at, provider) {
    const said = at - this.#split.skipped;
    if (said > 0) this.#stream.mark(said, () => seam(provider));
  }

  /** @param {number} [until] see MarkdownStream */
  render(until) {
    this.#folded?.render(until);
    if (this.said && this.#folded && !this.#split.thinking) this.#folded.end(performance.now() - this.#began);
    return this.#stream.render(until);
  }

  /** @param {number} [until] see MarkdownStream */
  finish(until) {
    this.#take(this.#split.flush());
    this.#folded?.end();
    return this.#stream.finish(until);
  }

  /** @param {import('./thoughts.js').Split} split */
  #take({ thought, said, back }) {
    if (back) {
      this.#stream = new MarkdownStream(this.#body);
      this.#body.replaceChildren();
    }
    if (thought) this.#fold().append(thought);
    if (!said) return;
    const begins = this.#stream.text === '' && this.#folded !== null;
    const shown = begins ? said.trimStart() : said; // between thought and answer there are empty lines
    this.#split.skipped += said.length - shown.length;
    this.#stream.append(shown);
  }

  #fold() {
    if (!this.#folded) {
      this.#folded = new Folded();
      this.#body.before(this.#folded.element);
    }
    return this.#folded;
  }
}

/** What a model thought: a `details` that says how long it took, where that was seen. */
class Folded {
  element = element('details', 'reasoning');
  #summary = element('summary', '', catalogue.view.thinking);
  #root = element('div', 'thought');
  #stream = new MarkdownStream(this.#root);
  #ended = false;

  constructor() {
    this.element.dataset.testid = 'reasoning';
    this.element.dataset.state = 'thinking';
    this.element.append(this.#summary, this.#root);
    this.element.addEventListener('toggle', () => this.render());
  }

  /** @param {string} text */
  append(text) {
    this.#stream.append(this.#stream.text ? text : text.trimStart());
  }

  /** @param {number} [until] */
  render(until) {
    if (!this.element.open) return;
    if (this.#ended) this.#stream.finish();
    else this.#stream.render(until);
  }

  /** @param {number} [ms] how long it took */
  end(ms) {
    if (this.#ended) return;
    this.#ended = true;
    this.element.dataset.state = 'done';
    this.#summary.textContent = ms ? catalogue.view.thoughtFor(duration(ms)) : catalogue.view.thoughts;
    this.render();
  }
}

/** @param {Provider} provider */
function seam(provider) {
  const mark = element('span', 'seam');
  mark.role = 'img';
  mark.ariaLabel = strings.continued[provider];
  mark.title = strings.continued[provider];
  mark.dataset.provider = provider;
  mark.append(icon(provider));
  return mark;
}
