/**
 * Auto-scroll that lets go: the view follows what is written while the reader is at its end; scrolling up lets go at once,
 * coming back to the end (or the jump button) takes hold again. Only the reader's own scrolling upwards counts as a wish.
 */

/** Pixels from the end that still count as the end. */
const SLACK = 24;

export class Follow {
  #scroller;
  #jump;
  #following = true;
  #last = { top: 0, height: 0 };

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content what grows inside it
   * @param {HTMLButtonElement} jump shown while not following
   */
  constructor(scroller, content, jump) {
    this.#scroller = scroller;
    this.#jump = jump;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => this.hold());
    const observer = new ResizeObserver(() => this.#following && this.#toEnd());
    observer.observe(content);
    observer.observe(scroller);
  }

  get following() {
    return this.#following;
  }

  /** Goes to the end and follows from there: the reader sent something, or asked. */
  hold() {
    this.#set(true);
    this.#toEnd();
  }

  #scrolled() {
    const { scrollTop: top, scrollHeight: height, clientHeight } = this.#scroller;
    if (height - top - clientHeight <= SLACK) this.#set(true);
    else if (top < this.#last.top && height >= this.#last.height) this.#set(false);
    this.#last = { top, height };
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#last = { top: this.#scroller.scrollTop, height: this.#scroller.scrollHeight };
  }

  /** @param {boolean} value */
  #set(value) {
    this.#following = value;
    this.#jump.hidden = value;
  }
}
