/**
 * Tells what a model thinks from what it says. Reasoning models write `<think>...</think>` before their answer; with some the
 * template has opened it already, so that only the end is written. A gateway's own reasoning deltas do not come through here.
 */

const OPENINGS = ['<think>', '<thinking>', '<reasoning>'];
const CLOSING = /<\/(?:think|thinking|reasoning)>/;
const LONGEST = '</reasoning>'.length;

/** @typedef {{thought: string, said: string, back?: boolean}} Split `back`: all that was said before was thought */

export class Thoughts {
  /** @type {'start'|'thinking'|'saying'} */
  #state = 'start';
  #held = '';
  #said = '';
  #thought = false;
  /** Characters of the whole that are not among what was said: tags and thoughts. All of them come before it. */
  skipped = 0;

  /** Whether a thought is under way. */
  get thinking() {
    return this.#state === 'thinking';
  }

  /**
   * @param {string} delta
   * @returns {Split}
   */
  feed(delta) {
    if (this.#state === 'saying') return this.#say(delta);
    this.#held += delta;
    return this.#state === 'start' ? this.#begin() : this.#think();
  }

  /** The end: what was waiting to be told apart. @returns {Split} */
  flush() {
    const rest = this.#held;
    this.#held = '';
    return this.#state === 'thinking' ? this.#thoughts(rest) : this.#say(rest);
  }

  /** @returns {Split} */
  #begin() {
    const text = this.#held.trimStart();
    const opening = OPENINGS.find((tag) => text.startsWith(tag));
    if (!opening && OPENINGS.some((tag) => tag.startsWith(text))) return { thought: '', said: '' };
    const all = this.#held;
    this.#held = '';
    if (!opening) return ((this.#state = 'saying'), this.#say(all));
    this.skipped += all.length - text.length + opening.length;
    this.#state = 'thinking';
    this.#held = text.slice(opening.length);
    return this.#think();
  }

  /** @returns {Split} */
  #think() {
    this.#thought = true;
    const end = CLOSING.exec(this.#held);
    if (!end) {
      const at = this.#held.lastIndexOf('<');
      const waits = at >= 0 && this.#held.length - at < LONGEST ? at : this.#held.length;
      const now = this.#held.slice(0, waits);
      this.#held = this.#held.slice(waits);
      return this.#thoughts(now);
    }
    const { thought } = this.#thoughts(this.#held.slice(0, end.index));
    const rest = this.#held.slice(end.index + end[0].length);
    this.skipped += end[0].length;
    this.#held = '';
    this.#state = 'saying';
    return { thought, said: this.#say(rest).said };
  }

  /** @param {string} text @returns {Split} */
  #thoughts(text) {
    this.skipped += text.length;
    return { thought: text, said: '' };
  }

  /** @param {string} text @returns {Split} */
  #say(text) {
    const whole = this.#thought || !text ? '' : this.#said + text;
    this.#said += text;
    const tail = whole.slice(-text.length - LONGEST);
    if (!CLOSING.test(tail)) return { thought: '', said: text };
    const end = /** @type {RegExpExecArray} */ (/(?:^|\n)[ \t]*<\/(?:think|thinking|reasoning)>/.exec(whole));
    if (!end || (whole.slice(0, end.index).match(/^(?:```|~~~)/gm) ?? []).length % 2) return { thought: '', said: text };
    this.#thought = true;
    this.skipped += end.index + end[0].length;
    this.#said = whole.slice(end.index + end[0].length);
    return { thought: whole.slice(0, end.index), said: this.#said, back: true };
  }
}
