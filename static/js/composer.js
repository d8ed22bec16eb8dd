/**
 * The composer. Enter sends, Shift+Enter breaks the line (or, as the person prefers it, Enter breaks and Ctrl+Enter sends; on touch, Enter
 * breaks and the button sends), and an input method's Enter is never taken for a send. What was typed before the page was ready is kept;
 * sent too early, it goes out when it is. Each conversation has its draft. Files come by button, paste or drop.
 */

import { Drafts } from './drafts.js';
import { PromptBook } from './promptbook.js';
import { Slash } from './slash.js';
import { readStored } from './stored.js';
import { catalogue, strings } from './strings.js';
import { Tray } from './tray.js';

/** @import {Commands} from './commands.js' */
/** @import {Place} from './drafts.js' */
/** @import {Attachment} from './protocol.js' */

const words = catalogue.composer;

/**
 * Which of the models that may answer now can see pictures.
 * @typedef {{able: boolean, leaves: boolean}} Sight `leaves`: only the server's can, and the browser's would have answered
 */

/**
 * @typedef {object} ComposerParts
 * @property {HTMLFormElement} form holds the rest; files may be dropped on it
 * @property {HTMLTextAreaElement} input
 * @property {HTMLButtonElement} send
 * @property {HTMLButtonElement} stop
 * @property {HTMLElement} hint a live region below the input
 * @property {HTMLElement} files the chips
 * @property {HTMLButtonElement} attach
 * @property {HTMLInputElement} chooser of files
 * @property {HTMLElement} slash the list of commands and prompts
 * @property {Commands} commands
 * @property {(text: string, attachments: Attachment[]) => void} onSend
 * @property {() => void} onStop
 * @property {() => Promise<Sight|null>} sight null when nobody knows
 */

export class Composer {
  #parts;
  #usual;
  #ready = false;
  #busy = false;
  #queued = false;
  #touched = false;
  #drafts = new Drafts();
  /** @type {Place|null} */
  #place = null;
  #tray;
  #slash;
  /** @type {PromptBook|null} */
  #book = null;

  /** @param {ComposerParts} parts */
  constructor(parts) {
    this.#parts = parts;
    this.#usual = parts.hint.textContent ?? '';
    this.#tray = new Tray(parts.files, (text, refused) => this.#say(text, refused), () => this.#filed());
    this.#slash = new Slash(parts.input, parts.slash, parts.commands, (text) => this.fill(text));
    parts.form.addEventListener('submit', (event) => (event.preventDefault(), this.submit()));
    parts.stop.addEventListener('click', () => parts.onStop());
    parts.input.addEventListener('keydown', (event) => this.#key(event));
    parts.input.addEventListener('input', () => ((this.#touched = true), this.#edited()));
    parts.input.addEventListener('focus', () => this.#usually());
    this.#takeFiles();
    this.#register();
    parts.input.value ||= this.#drafts.get(null).text;
    this.#fetchFiles();
    this.#usually();
    this.#fit();
  }

  /** @param {string} text in place of what is there; a blank to fill in, `{{...}}`, is selected */
  fill(text) {
    const { input } = this.#parts;
    input.value = text;
    this.#edited();
    input.focus();
    const blank = /\{\{.*?\}\}/.exec(text);
    if (blank) input.setSelectionRange(blank.index, blank.index + blank[0].length);
  }

  /** Another conversation is open, or this one has a place of its own now. @param {Place} place */
  conversation(place) {
    const before = this.#place;
    this.#place = place;
    if (before && before.id === place.id) return place.stored && !before.stored ? this.#drafts.settle(place) : undefined;
    if (before === null && !place.stored && !place.temporary) return undefined; // the new conversation that the page began with
    if (before === null && this.#touched) return this.#drafts.settle(place); // the writer was quicker than the page
    const { text, files } = this.#drafts.get(place);
    this.#fetchFiles();
    this.#parts.input.value = text;
    this.#tray.set(files);
    this.#edited();
    return undefined;
  }

  /** The files that an earlier page has kept come a moment later than the text. */
  #fetchFiles() {
    const place = this.#place;
    void this.#drafts.coming(place)?.then((files) => {
      if (files.length && place?.id === this.#place?.id) this.#tray.set(this.#drafts.get(this.#place).files);
    });
  }

  /** A conversation is gone for good, and its draft with it. @param {string} id */
  forget(id) {
    this.#drafts.forget(id);
  }

  /** The core answers: what waits goes out. */
  ready() {
    this.#ready = true;
    if (!this.#queued) return;
    this.#queued = false;
    this.submit();
  }

  /** @param {boolean} value whether an answer is under way */
  busy(value) {
    const { form, send, stop, input } = this.#parts;
    const focused = document.activeElement === (value ? send : stop);
    this.#busy = value;
    form.dataset.busy = String(value);
    stop.hidden = !value;
    send.hidden = value;
    if (focused) (value ? stop : input).focus(); // a hidden button loses focus to nowhere
    if (!value) this.#say(this.#usual);
  }

  submit() {
    const text = this.#parts.input.value.trim();
    if (this.#tray.reading) return;
    if (!text && !this.#tray.files.length) return this.#refuse(strings.empty);
    if (this.#busy) return this.#refuse(strings.busy);
    if (!this.#ready) {
      this.#queued = true;
      return this.#say(strings.queued);
    }
    if (this.#tray.images) void this.#sendSeen(text);
    else this.#send(text);
  }

  /** Pictures go only where a model sees them. @param {string} text */
  async #sendSeen(text) {
    const sight = await this.#parts.sight();
    if (sight && !sight.able) this.#refuse(words.blind);
    else if (!this.#busy && this.#parts.input.value.trim() === text) this.#send(text);
  }

  /** @param {string} text */
  #send(text) {
    const { files } = this.#tray;
    this.#parts.input.value = '';
    this.#tray.set([]);
    this.#edited();
    this.#parts.onSend(text, files);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const composing = event.isComposing || event.keyCode === 229;
    if (composing || this.#slash.key(event)) return;
    if (event.key === 'Escape' && this.#busy) this.#parts.onStop();
    if (event.key !== 'Enter' || event.shiftKey || matchMedia('(pointer: coarse)').matches) return;
    if (breaks() && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.submit();
  }

  #edited() {
    const { input } = this.#parts;
    this.#queued = false;
    this.#keep();
    this.#slash.look();
    input.removeAttribute('aria-invalid');
    this.#say(this.#usual);
    this.#fit();
  }

  #keep() {
    this.#drafts.set(this.#place, { text: this.#parts.input.value, files: this.#tray.files });
  }

  /** The files have changed: is there anybody who sees the pictures? */
  #filed() {
    this.#keep();
    this.#parts.input.removeAttribute('aria-invalid');
    if (!this.#tray.images) return this.#say(this.#usual);
    void this.#parts.sight().then((sight) => {
      if (!sight || !this.#tray.images) return;
      if (!sight.able) this.#say(words.blind, true);
      else if (sight.leaves) this.#say(words.blindLocal);
    });
  }

  #takeFiles() {
    const { form, input, attach, chooser } = this.#parts;
    const take = (/** @type {Iterable<File>} */ files) => void this.#tray.add(files);
    attach.addEventListener('click', () => chooser.click());
    chooser.addEventListener('change', () => {
      take([...(chooser.files ?? [])]);
      chooser.value = ''; // the same file may be chosen again
      input.focus();
    });
    input.addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length || event.clipboardData?.types.includes('text/plain')) return; // an office program adds a picture to its text
      event.preventDefault();
      take(files);
    });
    const over = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
    const target = form.closest('main') ?? form;
    target.addEventListener('dragover', (event) => {
      if (!over(event)) return;
      event.preventDefault();
      form.dataset.drop = words.drop;
    });
    target.addEventListener('dragleave', (event) => !target.contains(/** @type {Node|null} */ (event.relatedTarget)) && delete form.dataset.drop);
    target.addEventListener('drop', (event) => {
      delete form.dataset.drop;
      if (!over(event)) return;
      event.preventDefault();
      take([...(event.dataTransfer?.files ?? [])]);
    });
  }

  #register() {
    const { commands, attach, input } = this.#parts;
    const book = () => (this.#book ??= new PromptBook((text) => this.fill(text)));
    commands.register(
      { id: 'prompts.open', title: () => words.openPrompts, slash: 'prompts', keywords: ['prompt', 'library'], run: () => book().open() },
      { id: 'prompts.save', title: () => words.savePrompt, slash: 'save', keywords: ['prompt'], run: (rest) => book().open(rest || input.value) },
      { id: 'files.attach', title: () => words.attachFiles, slash: 'attach', keywords: ['file', 'image', 'picture'], run: () => attach.click() },
    );
  }

  /** @param {string} text */
  #refuse(text) {
    this.#parts.input.setAttribute('aria-invalid', 'true');
    this.#parts.input.focus();
    this.#say(text);
  }

  /** What the hint says when there is nothing else to say; the preference may have changed. */
  #usually() {
    const usual = breaks() ? words.hintNewline : catalogue.page.hint;
    if (this.#parts.hint.textContent === this.#usual) this.#say(usual);
    this.#usual = usual;
  }

  /** @param {string} text @param {boolean} [refused] */
  #say(text, refused = false) {
    const { hint } = this.#parts;
    if (hint.textContent !== text) hint.textContent = text;
    hint.dataset.tone = refused ? 'refused' : '';
    if (text === this.#usual) delete hint.dataset.said;
    else hint.dataset.said = '';
  }

  /** Grows the input with its text where CSS cannot (`field-sizing`). */
  #fit() {
    const { input } = this.#parts;
    if (CSS.supports('field-sizing', 'content')) return;
    input.style.height = 'auto';
    input.style.height = `${input.scrollHeight}px`;
  }
}

/** @returns {boolean} whether the person prefers that Enter breaks the line */
const breaks = () => /** @type {{enter?: string}} */ (readStored().preferences ?? {}).enter === 'newline';
