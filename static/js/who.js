/** Where the mode control is behind a drawer, the drawer's button says who answers: nobody should have to open it to know. */

import { element } from './dom.js';
import { catalogue, strings } from './strings.js';

/** @import {EventBus} from './events.js' */

/** @param {string} mode @returns {string} whose colour it has */
const side = (mode) => (mode === 'auto' ? 'both' : mode.startsWith('local') ? 'local' : 'cloud');

/**
 * @param {HTMLButtonElement} button the drawer's
 * @param {EventBus} events
 * @returns {(mode: unknown) => void} says the mode in force, which later events tell by themselves
 */
export function who(button, events) {
  const dot = element('i', 'dot');
  const name = element('span', 'who-name');
  const label = element('span', 'who');
  label.append(dot, name);
  label.hidden = true;
  button.prepend(label);
  const say = (/** @type {unknown} */ mode) => {
    const text = catalogue.views.modes[String(mode)];
    if (!text) return;
    label.hidden = false;
    label.dataset.side = side(String(mode));
    name.textContent = text;
    button.ariaLabel = strings.panelOf(text);
  };
  events.on('hybrid-llm:mode-changed', ({ to }) => say(to));
  return say;
}
