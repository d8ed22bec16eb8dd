/** Boot status, the calm notice in the chat column, and the panel for what cannot be mended without the person. */

import { element, icon } from './dom.js';
import { place } from './place.js';
import { sayError, sayReason, sayRemedy, strings } from './strings.js';

/** @import {Preflight, WireError} from './protocol.js' */

export class BootStatus {
  #root;
  #text;
  #bar;

  /** @param {HTMLElement} root holds a `.boot-text` and a `<progress>` */
  constructor(root) {
    this.#root = root;
    this.#text = /** @type {HTMLElement} */ (root.querySelector('.boot-text'));
    this.#bar = /** @type {HTMLProgressElement} */ (root.querySelector('progress'));
  }

  /**
   * @param {string} text
   * @param {number|null} [fraction] 0..1, null when not known
   */
  say(text, fraction = null) {
    this.#text.textContent = text;
    if (fraction === null) this.#bar.removeAttribute('value');
    else this.#bar.value = fraction;
  }

  done() {
    this.#root.hidden = true;
  }
}

/** One line a topic at the top of the chat column, or nothing. */
export class Notice {
  #root;
  /** @type {Map<string, HTMLElement>} */
  #lines = new Map();

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {string} topic one line each
   * @param {string[]} sentences the first is the news; none takes the line away
   */
  set(topic, sentences) {
    this.#lines.get(topic)?.remove();
    this.#lines.delete(topic);
    const [news, ...rest] = sentences.filter(Boolean);
    if (news) {
      const line = element('p');
      line.append(element('strong', '', news), ` ${rest.join(' ')}`);
      line.dataset.topic = topic;
      this.#lines.set(topic, line);
      this.#root.append(line);
    }
    this.#root.hidden = this.#lines.size === 0;
  }
}

/**
 * Where no model can run here, or only on the processor, the welcome says so: what, why, and what would change it.
 * @param {HTMLElement} promise the sentence that would be untrue
 * @param {HTMLElement} root what takes its place
 * @param {Preflight} preflight
 */
export function showPreflight(promise, root, { webgpu, wasm, code, args, reason, remedy }) {
  promise.hidden = webgpu === 'no' && wasm !== 'yes';
  root.hidden = webgpu === 'yes';
  const news = element('p');
  if (wasm === 'yes') news.append(strings.processor);
  else news.append(element('strong', '', strings.noWebGpu), ` ${place() === 'local' ? strings.nobodyAnswers : strings.serverAnswers}`);
  root.replaceChildren(news, element('p', '', sayReason(code, args, reason, remedy)));
}

/**
 * In the local-only document: that it is one, what that means, and the way out.
 * @param {HTMLElement} root
 * @param {HTMLElement} promise the welcome's sentence, which is another one here
 * @param {() => void} onLeave
 */
export function showLocal(root, promise, onLeave) {
  promise.textContent = strings.localPromise;
  const leave = element('button', 'act', strings.leaveLocal);
  leave.type = 'button';
  leave.dataset.testid = 'leave-local';
  leave.addEventListener('click', onLeave);
  const said = element('p');
  said.append(element('strong', '', strings.localOnly), element('span', '', strings.localOnlyMeans));
  root.replaceChildren(icon('lock'), said, leave);
  root.hidden = false;
}

/**
 * Shows what went wrong and what to do, over everything; the first error stays, for it is the cause of those after it.
 * @param {HTMLDialogElement} dialog
 * @param {WireError & {remedy?: unknown}} error
 */
export function showFatal(dialog, error) {
  if (dialog.open) return;
  const button = element('button', 'primary', strings.reload);
  button.type = 'button';
  button.addEventListener('click', () => location.reload());
  const title = element('h2', '', strings.fatalTitle);
  title.id = 'fatal-title';
  dialog.replaceChildren(title, element('p', '', sayError(error)));
  const remedy = sayRemedy(error);
  if (remedy) dialog.append(element('p', '', remedy));
  if (error.code) dialog.append(element('p', 'code', error.code));
  dialog.append(button);
  dialog.addEventListener('cancel', (event) => event.preventDefault());
  dialog.showModal();
}
