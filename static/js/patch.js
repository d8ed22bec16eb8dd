/**
 * Makes one element's content like another's by the fewest changes: what is the same stays the same node, and a text that has grown is
 * added to. So a reader's selection, and how far a table is scrolled, survive while the block is still being written.
 */

/**
 * @param {Element} old changed in place
 * @param {Element} fresh its nodes are used up
 */
export function patch(old, fresh) {
  if (old.className !== fresh.className) old.className = fresh.className;
  let at = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const next = at?.nextSibling ?? null;
    if (!at) old.append(node);
    else if (!at.isEqualNode(node)) alter(at, node);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** @param {ChildNode} old @param {ChildNode} node */
function alter(old, node) {
  if (old instanceof Text && node instanceof Text) rewrite(old, node.data);
  else if (old instanceof Element && node instanceof Element && alike(old, node)) patch(old, node);
  else old.replaceWith(node);
}

/** @param {Element} old @param {Element} node @returns {boolean} whether they differ in what is inside only */
const alike = (old, node) => /** @type {Element} */ (old.cloneNode()).isEqualNode(node.cloneNode());

/** @param {Text} old @param {string} text */
function rewrite(old, text) {
  let same = 0;
  while (same < old.length && same < text.length && old.data[same] === text[same]) same += 1;
  old.replaceData(same, old.length - same, text.slice(same));
}
