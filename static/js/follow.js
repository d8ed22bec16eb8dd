/**
 * Who owns the scroll position. While the reader is at the end the view follows what is written; scrolling up lets go at once,
 * coming back to the end (or the jump button) takes hold again. Only the reader's own scrolling upwards counts as a wish.
 *
 * While it has let go, what the reader looks at stays where it is, whatever becomes of the heights above (messages come into the
 * page and leave it, code is coloured, a formula is set): the topmost thing in sight is the anchor.
 * The content may say `follow` (a CustomEvent; detail: whether to go to the end and follow, or to let go).
 */

/** Pixels from the end that still count as the end. */
const SLACK = 24;
/** Milliseconds for which a wheel, key or finger that goes upwards explains a scroll. */
const WISH = 400;
const UPWARDS = new Set(['ArrowUp', 'PageUp', 'Home']);

export class Follow {
  #scroller;
  #content;
  #jump;
  #following = true;
  #last = { top: 0, height: 0 };
  #wished = -Infinity;
  /** @type {{element: Element, top: number}|null} */
  #anchor = null;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content what grows inside it; its children, and `.block`s in them, can be anchors
   * @param {HTMLButtonElement} jump shown while not following, and away from the end
   */
  constructor(scroller, content, jump) {
    this.#scroller = scroller;
    this.#content = content;
    this.#jump = jump;
    const wish = () => (this.#wished = performance.now());
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    scroller.addEventListener('wheel', ({ deltaY }) => deltaY < 0 && wish(), { passive: true });
    scroller.addEventListener('touchmove', wish, { passive: true });
    scroller.addEventListener('keydown', ({ key }) => UPWARDS.has(key) && wish());
    jump.addEventListener('click', () => this.hold());
    content.addEventListener('follow', (event) => (/** @type {CustomEvent} */ (event).detail ? this.hold() : this.#set(false)));
    const observer = new ResizeObserver(() => (this.#following ? this.#toEnd() : this.#keep()));
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
    const { scrollTop: top, scrollHeight: height } = this.#scroller;
    const wished = height >= this.#last.height || performance.now() - this.#wished < WISH;
    if (this.#atEnd()) this.#set(true);
    else if (top < this.#last.top && wished) this.#set(false);
    this.#last = { top, height };
    this.#anchor = this.#following ? null : anchor(this.#content, this.#edge());
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#last = { top: this.#scroller.scrollTop, height: this.#scroller.scrollHeight };
  }

  #keep() {
    const { element, top = 0 } = this.#anchor ?? {};
    const moved = element?.isConnected ? element.getBoundingClientRect().top - top : 0;
    if (Math.abs(moved) >= 1) this.#scroller.scrollTop += moved;
    this.#last = { top: this.#scroller.scrollTop, height: this.#scroller.scrollHeight };
    this.#anchor = anchor(this.#content, this.#edge());
    this.#offer();
  }

  #atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight <= SLACK;
  }

  #edge() {
    return this.#scroller.getBoundingClientRect().top;
  }

  /** @param {boolean} value */
  #set(value) {
    this.#following = value;
    this.#offer();
  }

  /** Whoever is at the end has nowhere to jump, even where nothing is followed (a found message in a short conversation). */
  #offer() {
    this.#jump.hidden = this.#following || this.#atEnd();
  }
}

/**
 * The topmost message in sight, or of its blocks where it has some. Sections that are not in sight are not looked into: that would lay
 * them out.
 * @param {Element} content
 * @param {number} edge the viewport's upper edge (px)
 */
function anchor(content, edge) {
  let element = firstBelow(content.children, edge);
  for (const inner of ['.body', '.section']) {
    const holder = element?.matches(inner) ? element : element?.querySelector(`:scope > ${inner}`);
    element = (holder && firstBelow(holder.children, edge)) || element;
  }
  return element ? { element, top: element.getBoundingClientRect().top } : null;
}

/**
 * @param {HTMLCollection} elements one below the other
 * @param {number} edge
 * @returns {Element|undefined} the first whose end is below `edge`
 */
function firstBelow(elements, edge) {
  let [low, high] = [0, elements.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((elements[middle]?.getBoundingClientRect().bottom ?? Infinity) > edge) high = middle;
    else low = middle + 1;
  }
  return elements[low];
}
