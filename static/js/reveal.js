/** Opening a section of the panel from elsewhere: from the palette, or from another view. */

const SHOW = 'hybr:show';

/** @param {string} section by its name: it opens, wherever it stands */
export const reveal = (section) => void dispatchEvent(new CustomEvent(SHOW, { detail: section }));

/** @param {string} section @param {HTMLDetailsElement} box opens when somebody asks for that section */
export function revealed(section, box) {
  addEventListener(SHOW, (event) => {
    if (/** @type {CustomEvent} */ (event).detail !== section) return;
    box.open = true;
    box.querySelector('summary')?.focus();
    box.scrollIntoView({ block: 'start' });
  });
}
