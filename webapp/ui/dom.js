/** What the views share: making elements, our icons, keyed lists, the style sheet, and the frame of a view. */

import { sayError } from './words.js';

export { reveal, revealed } from '../reveal.js';

const SHEET = await loadSheet();

/** @returns {Promise<CSSStyleSheet>} one for all views, loaded before the first of them is drawn */
async function loadSheet() {
  const answer = await fetch(new URL('./panel.css', import.meta.url));
  return new CSSStyleSheet().replace(await answer.text());
}

/** @typedef {Record<string, string|number|boolean|null|undefined|((event: any) => void)>} Attributes */

/**
 * Makes an element. `on...` functions listen; true and false set and leave out; `text` is its text.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Attributes} [attributes] @param {(Node|string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') made.addEventListener(name.slice(2), value);
    else if (name === 'text') made.textContent = String(value ?? '');
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}

/** Paths in a 16 by 16 box, drawn with the text's colour; the same hand as the shell's icons. */
const ICONS = {
  local: '<rect x="2" y="2.75" width="12" height="8.5" rx="1.5"/><path d="M5.5 13.75h5"/>',
  cloud: '<path d="M4.6 12.5a2.85 2.85 0 0 1-.3-5.68 3.9 3.9 0 0 1 7.5.72 2.5 2.5 0 0 1-.3 4.96z"/>',
  check: '<path d="m3.5 8.4 3 3 6-6.6"/>',
};

/** @param {keyof typeof ICONS} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  svg.innerHTML = ICONS[name];
  return svg;
}

/**
 * A question in the button's place before something that cannot be taken back; a no, or what was done, brings the button back.
 * @param {HTMLButtonElement} button with a data-testid
 * @param {{ask: string, yes: string, no: string}} words
 * @param {() => unknown} run after a yes
 * @returns {HTMLElement} to be put beside the button
 */
export function twice(button, { ask, yes, no }, run) {
  const keep = h('button', { type: 'button', text: no, onclick: () => show(false) });
  const act = h('button', { type: 'button', class: 'danger', 'data-testid': `${button.dataset.testid}-really`, text: yes, onclick: () => void Promise.resolve(run()).then(() => show(false)) });
  const box = h('div', { class: 'ask', role: 'alertdialog', 'aria-label': button.textContent }, h('p', { text: ask }), h('div', { class: 'buttons' }, keep, act));
  const show = (/** @type {boolean} */ asked) => {
    box.hidden = !asked;
    button.hidden = asked;
    (asked ? keep : button).focus();
  };
  box.hidden = true;
  button.addEventListener('click', () => show(true));
  return box;
}

let fields = 0;

/**
 * A labelled control with room for a hint and for what is wrong with it.
 * @param {string} label @param {HTMLInputElement|HTMLTextAreaElement|HTMLSelectElement} input @param {string} [hint]
 * @returns {HTMLElement}
 */
export function field(label, input, hint = '') {
  const id = `field-${(fields += 1)}`;
  input.id = id;
  input.setAttribute('aria-describedby', `${id}-hint ${id}-wrong`);
  return h('div', { class: 'field' }, h('label', { for: id, text: label }), input,
    h('p', { class: 'hint', id: `${id}-hint`, text: hint }), h('p', { class: 'wrong', id: `${id}-wrong`, role: 'alert' }));
}

/**
 * Shows what was refused at the control that it concerns, and at no other.
 * @param {Record<string, Element>} inputs by the last part of a field's name @param {any} error with `field` and `message`; null for none
 * @returns {boolean} whether one of them was at fault
 */
export function complaint(inputs, error) {
  const at = String(error?.field ?? '').split('.');
  let told = false;
  for (const [name, input] of Object.entries(inputs)) {
    const wrong = error && at.includes(name);
    const place = input.parentElement?.querySelector('.wrong');
    if (place) say(place, wrong ? error.message : '');
    set(input, { 'aria-invalid': wrong ? 'true' : null });
    if (wrong && !told && input instanceof HTMLElement) input.focus();
    told ||= Boolean(wrong && place);
  }
  return told;
}

/** @param {Element} node @param {Attributes} attributes sets those that differ; null and false take one away */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const wanted = value === null || value === undefined || value === false ? null : value === true ? '' : String(value);
    if (node.getAttribute(name) === wanted) continue;
    if (wanted === null) node.removeAttribute(name);
    else node.setAttribute(name, wanted);
  }
}

/** @param {Element} node @param {string} text changes the text only when it differs, so that a live region speaks once */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Keeps the children of `parent` equal to `items` without making again what is there: focus and selection survive.
 * @template {{id: string}} T
 * @template {HTMLElement} N
 * @param {Map<string, N>} made by id @param {HTMLElement} parent @param {T[]} items
 * @param {(item: T) => N} make @param {(node: N, item: T) => void} update
 */
export function keep(made, parent, items, make, update) {
  const wanted = new Set(items.map(({ id }) => id));
  for (const [id, node] of made) if (!wanted.has(id)) (node.remove(), made.delete(id));
  items.forEach((item, at) => {
    const node = made.get(item.id) ?? make(item);
    made.set(item.id, node);
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] ?? null);
    update(node, item);
  });
}

/**
 * What Panel gives a component's `render`.
 * @typedef {{state: string, on: (name: string, listener: () => void) => void, send_msg: (message: object) => void,
 *   get_child: (name: string) => HTMLElement[], [property: string]: any}} Model
 * @typedef {{model: Model, el: HTMLElement}} Props
 */

/**
 * Asks Python for something and waits for what came of it; what was refused is an Error with `field` and `code`.
 * @typedef {(message: object) => Promise<any>} Ask
 */

/** @typedef {HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement} Control */

/**
 * What a person has just changed, until a state comes that knows of it. A state may have been on its way already, and would draw back
 * what it is older than: so messages are numbered, and a state says which it has heard (`heard`) and has not done yet (`doing`).
 */
class Held {
  /** The number of the newest message. */
  sent = 0;
  /** @type {Map<Control, number>} by the message that told of it */
  #controls = new Map();

  /** @param {HTMLElement} root of the controls; what one of its `change` events sends tells of that control */
  constructor(root) {
    let before = 0;
    root.addEventListener('change', () => (before = this.sent), true);
    root.addEventListener('change', ({ target }) => this.sent > before && this.#controls.set(/** @type {Control} */ (target), this.sent));
  }

  /** @param {{heard?: number, doing?: number[]}} state @param {() => void} draw shows it */
  through({ heard = 0, doing = [] }, draw) {
    this.sent = Math.max(this.sent, heard); // a view that is drawn anew counts on
    for (const [control, told] of this.#controls) if (told <= heard && !doing.includes(told)) this.#controls.delete(control);
    const given = [...this.#controls.keys()].map((control) => {
      const { value } = control;
      return { control, now: control instanceof HTMLInputElement ? { value, checked: control.checked } : { value } };
    });
    draw();
    for (const { control, now } of given) Object.assign(control, now);
  }
}

/** @param {Model} model @param {(message: object) => number} send @returns {Ask} */
function asking(model, send) {
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  model.on('answer', () => {
    const { ask, value, error } = JSON.parse(model.answer);
    const who = waiting.get(ask);
    waiting.delete(ask);
    if (error) who?.reject(Object.assign(new Error(sayError(error)), { field: error.field, code: error.code }));
    else who?.resolve(value);
  });
  return (message) => new Promise((resolve, reject) => waiting.set(send({ ...message, ask: true }), { resolve, reject }));
}

/**
 * A component from a view: `draw` makes its elements once and returns what shows a state in them.
 * @template S
 * @param {(root: HTMLElement, send: (message: object) => void, model: Model, ask: Ask) => (state: S) => void} draw
 * @returns {(props: Props) => HTMLElement}
 */
export function component(draw) {
  return ({ model, el }) => {
    const shadow = el.getRootNode();
    if (shadow instanceof ShadowRoot) shadow.adoptedStyleSheets = [...shadow.adoptedStyleSheets, SHEET];
    const root = h('section', { class: 'part' });
    const held = new Held(root);
    const send = (/** @type {object} */ message) => {
      model.send_msg({ ...message, sent: (held.sent += 1) });
      return held.sent;
    };
    const show = draw(root, send, model, asking(model, send));
    const update = () => {
      const state = JSON.parse(model.state);
      held.through(state, () => show(state));
    };
    model.on('state', update);
    update();
    return root;
  };
}
