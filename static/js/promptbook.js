/** The prompt library: the person's prompts in a dialog, to use, write, change and delete. */

import { element, icon } from './dom.js';
import { Overlay } from './overlay.js';
import { list, remove, save } from './prompts.js';
import { catalogue } from './strings.js';

/** @import {Prompt} from './prompts.js' */

const words = catalogue.composer;

export class PromptBook {
  #overlay = new Overlay('promptbook', words.prompts);
  #list = element('ul', 'prompt-list');
  #none = element('p', 'prompt-none', words.promptsEmpty);
  #form = element('form', 'prompt-form');
  #title = element('input');
  #text = element('textarea');
  #said = element('p', 'prompt-said');
  #add = element('button', 'act', words.promptNew);
  /** @type {string|undefined} */
  #editing;
  #use;

  /** @param {(text: string) => void} use puts a prompt into the message box */
  constructor(use) {
    this.#use = use;
    this.#said.role = 'status';
    this.#add.type = 'button';
    this.#add.prepend(icon('plus'));
    this.#add.addEventListener('click', () => this.#edit());
    this.#buildForm();
    const body = element('div', 'prompt-body');
    body.append(this.#none, this.#list, this.#form, this.#said, this.#add);
    this.#overlay.dialog.append(this.#overlay.head(words.prompts), body);
  }

  /** @param {string} [text] to begin a new prompt with */
  open(text) {
    this.#said.textContent = '';
    this.#draw();
    this.#overlay.open();
    if (text === undefined) this.#close();
    else this.#edit({ title: '', text });
  }

  #buildForm() {
    this.#title.required = true;
    this.#title.maxLength = 80;
    this.#text.required = true;
    this.#text.rows = 6;
    const cancel = element('button', 'act', words.cancel);
    cancel.type = 'button';
    cancel.addEventListener('click', () => this.#close());
    const keep = element('button', 'act strong', words.promptSave);
    keep.type = 'submit';
    const buttons = element('div', 'acts');
    buttons.append(keep, cancel);
    this.#form.noValidate = true;
    this.#form.append(labelled(words.promptTitle, this.#title), labelled(words.promptText, this.#text), buttons);
    this.#form.addEventListener('submit', (event) => (event.preventDefault(), this.#save()));
  }

  #draw() {
    const prompts = list();
    this.#none.hidden = prompts.length > 0;
    this.#list.replaceChildren(...prompts.map((prompt) => this.#row(prompt)));
  }

  /** @param {Prompt} prompt */
  #row(prompt) {
    const row = element('li', 'prompt');
    row.dataset.testid = 'prompt';
    const about = element('div');
    about.append(element('strong', '', prompt.title), element('p', '', prompt.text));
    const buttons = element('div', 'acts');
    buttons.append(
      this.#button(words.promptUse, prompt, () => (this.#overlay.close(), this.#use(prompt.text))),
      this.#button(words.promptEdit, prompt, () => this.#edit(prompt)),
      this.#button(words.promptDelete, prompt, () => this.#delete(prompt)),
    );
    row.append(about, buttons);
    return row;
  }

  /** @param {string} what @param {Prompt} prompt @param {() => void} run */
  #button(what, prompt, run) {
    const button = element('button', 'act small', what);
    button.type = 'button';
    button.ariaLabel = words.promptNamed(what, prompt.title);
    button.addEventListener('click', run);
    return button;
  }

  /** @param {{id?: string, title: string, text: string}} [prompt] */
  #edit({ id, title, text } = { title: '', text: '' }) {
    this.#editing = id;
    this.#title.value = title;
    this.#text.value = text;
    this.#said.textContent = '';
    this.#form.hidden = false;
    this.#add.hidden = true;
    this.#title.focus();
  }

  #close() {
    this.#form.hidden = true;
    this.#add.hidden = false;
    this.#add.focus();
  }

  #save() {
    const [title, text] = [this.#title.value.trim(), this.#text.value];
    if (!title || !text.trim()) {
      this.#said.textContent = words.promptNeeds;
      (title ? this.#text : this.#title).focus();
      return;
    }
    const kept = save({ ...(this.#editing ? { id: this.#editing } : {}), title, text });
    this.#said.textContent = kept ? words.promptKept : words.promptNotKept;
    if (!kept) return;
    this.#draw();
    this.#close();
  }

  /** @param {Prompt} prompt */
  #delete({ id, title }) {
    remove(id);
    this.#said.textContent = words.removed(title);
    this.#draw();
    this.#add.focus();
  }
}

/** @param {string} text @param {HTMLElement} field */
function labelled(text, field) {
  const label = element('label', 'prompt-field');
  label.append(element('span', '', text), field);
  return label;
}
