/** Making elements: plain ones, and our icons, which are symbols in index.html used by name; and waiting for the next frame. */

/**
 * A hidden page gets no frames, but its reader comes back.
 * @param {() => void} work
 */
export function nextFrame(work) {
  if (document.hidden) setTimeout(work, 100);
  else requestAnimationFrame(work);
}

/**
 * @param {string} name of a `<symbol id="icon-...">`
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
