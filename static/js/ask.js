/**
 * The egress gate's question: what would leave this browser, to whom and why. Nothing is sent unless the person says so: Escape, the
 * first button and silence all keep it here. Several questions wait for their turn; one whose request was settled otherwise goes.
 */

import { element } from './dom.js';
import { number } from './figures.js';
import { strings } from './strings.js';

/**
 * @typedef {object} Question the detail of `egress:asked`
 * @property {string} requestId
 * @property {string} cause
 * @property {number} bytes
 * @property {number} [messages]
 * @property {string|null} [model]
 * @property {Record<string, number>} [found] what redaction would take out, by kind
 * @property {number} timeoutS
 */

/** @typedef {boolean|'redact'} Answer */

export class EgressQuestions {
  #dialog;
  #answer;
  /** @type {{question: Question, until: number}[]} the first is the one shown */
  #queue = [];
  /** @type {ReturnType<typeof setInterval>|undefined} */
  #clock;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {(requestId: string, answer: Answer) => void} answer
   */
  constructor(dialog, answer) {
    this.#dialog = dialog;
    this.#answer = answer;
    dialog.addEventListener('cancel', (event) => (event.preventDefault(), this.#say(false)));
    dialog.addEventListener('click', ({ target }) => {
      const said = target instanceof HTMLElement ? target.dataset.answer : undefined;
      if (said) this.#say(said === 'redact' ? 'redact' : said === 'send');
    });
  }

  /** @param {Question} question */
  ask(question) {
    this.#queue.push({ question, until: Date.now() + question.timeoutS * 1000 });
    if (this.#queue.length === 1) this.#show();
  }

  /** @param {string} requestId that was sent, refused, or has ended */
  settled(requestId) {
    const shown = this.#queue[0]?.question.requestId === requestId;
    this.#queue = this.#queue.filter(({ question }) => question.requestId !== requestId);
    if (shown) this.#show();
  }

  /** @param {Answer} answer */
  #say(answer) {
    const id = this.#queue[0]?.question.requestId;
    if (id === undefined) return;
    this.#answer(id, answer);
    this.settled(id);
  }

  #show() {
    clearInterval(this.#clock);
    const first = this.#queue[0];
    if (!first) return this.#dialog.close();
    const left = element('p', 'left');
    left.setAttribute('role', 'timer'); // not read aloud each second
    this.#dialog.replaceChildren(...body(first.question), left, buttons(first.question));
    const tick = () => {
      const seconds = Math.ceil((first.until - Date.now()) / 1000);
      if (seconds <= 0) return this.#say(false);
      left.textContent = strings.askLeft(seconds);
    };
    tick();
    this.#clock = setInterval(tick, 500);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.querySelector('button')?.focus();
  }
}

/** @param {Question} question @returns {HTMLElement[]} */
function body({ cause, bytes, messages = 0, model, found = {} }) {
  const title = element('h2', '', strings.askTitle);
  title.id = 'egress-title';
  const facts = element('dl');
  /** @param {string} name @param {string} value */
  const fact = (name, value) => facts.append(element('dt', '', name), element('dd', '', value));
  fact(strings.askTo, strings.askServer(location.host) + (model ? ` (${model})` : ''));
  fact(strings.askWhat, strings.askSize(messages, size(bytes)));
  fact(strings.askFound, finds(found) || strings.askNothing);
  return [title, element('p', '', strings.askWhy[cause] ?? strings.askWhy.mode), facts];
}

/** @param {Question} question */
function buttons({ found = {} }) {
  const row = element('div', 'acts');
  /** @param {string} answer @param {string} text @param {string} className */
  const button = (answer, text, className) => {
    const made = element('button', className, text);
    made.type = 'button';
    made.dataset.answer = answer;
    made.dataset.testid = `egress-${answer}`;
    row.append(made);
  };
  button('keep', strings.askKeep, 'act');
  if (Object.keys(found).length) button('redact', strings.askRedact, 'act');
  button('send', strings.askSend, 'act strong');
  return row;
}

/** @param {Record<string, number>} found */
function finds(found) {
  return Object.entries(found)
    .map(([kind, count]) => [count, (strings.askFinds[kind] ?? strings.askFinds.key)?.[count === 1 ? 0 : 1]].join(' '))
    .join(', ');
}

/** @param {number} bytes @returns {string} decimal units, as people read them */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${number(bytes / 1000, 1)} kB` : `${number(bytes / 1e6, 1)} MB`;
}
