/** What stands in the list: a conversation, the heading of a section, and the field in which a name is changed in place. */

import { element, icon } from '../dom.js';
import { catalogue } from '../strings.js';
import { isNewer } from './groups.js';

/** @import {Row} from '../shelf/change.js' */
/** @import {Section} from './groups.js' */

const words = catalogue.history;

/** @param {Row} row @returns {string} */
export const titleOf = (row) => (typeof row.title === 'string' && row.title.trim() ? row.title : words.untitled);

/**
 * @param {Row} row
 * @param {{open: boolean, inside: boolean}} how whether it is shown in the page, and whether it is in a folder
 * @returns {HTMLElement}
 */
export function conversation(row, { open, inside }) {
  const item = element('div', inside ? 'chat inside' : 'chat');
  const button = element('button', 'chat-open');
  Object.assign(button, { type: 'button', tabIndex: -1, title: titleOf(row) });
  Object.assign(button.dataset, { testid: 'conversation', id: row.id });
  button.append(element('span', 'name', titleOf(row)));
  if (open) button.setAttribute('aria-current', 'page');
  if (isNewer(row)) {
    button.prepend(icon('alert'));
    button.title = words.newer;
    button.dataset.newer = '';
  }
  item.append(button, more(titleOf(row), 'conversation-menu'));
  return item;
}

/** @param {Section} section @param {boolean} fixed whether it cannot be folded @returns {HTMLElement} */
export function heading(section, fixed) {
  const item = element('div', `heading ${section.kind}`);
  const title = element('h3');
  if (fixed) {
    title.textContent = section.label;
    item.append(title);
    return item;
  }
  const button = element('button', 'fold');
  Object.assign(button, { type: 'button', tabIndex: -1, ariaExpanded: String(section.open) });
  Object.assign(button.dataset, { testid: 'folder', folder: section.label });
  button.append(icon('next'), icon('folder'), element('span', 'name', section.label), element('span', 'count', String(section.rows.length)));
  title.append(button);
  item.append(title, more(section.label, 'folder-menu'));
  return item;
}

/** @param {string} name @param {string} testid */
function more(name, testid) {
  const button = element('button', 'chat-more');
  Object.assign(button, { type: 'button', tabIndex: -1, ariaLabel: words.moreOf(name), ariaHasPopup: 'menu', ariaExpanded: 'false' });
  button.dataset.testid = testid;
  button.append(icon('more'));
  return button;
}

/**
 * Puts a field in the place of a button; Enter and leaving it keep the name, Escape does not.
 * @param {HTMLElement} button
 * @param {string} name
 * @param {string} label
 * @param {(name: string|null) => void} done null: unchanged
 */
export function renameIn(button, name, label, done) {
  const input = element('input', 'rename');
  Object.assign(input, { type: 'text', value: name, maxLength: 300, ariaLabel: label, dir: 'auto' });
  input.dataset.testid = 'rename';
  let over = false;
  const end = (/** @type {boolean} */ keep) => {
    if (over) return;
    over = true;
    const value = input.value.trim();
    input.replaceWith(button);
    done(keep && value !== name ? value : null);
  };
  input.addEventListener('keydown', (event) => {
    event.stopPropagation();
    if (event.isComposing || !['Enter', 'Escape'].includes(event.key)) return;
    event.preventDefault();
    end(event.key === 'Enter');
  });
  input.addEventListener('blur', () => end(true));
  button.replaceWith(input);
  input.focus();
  input.select();
}
