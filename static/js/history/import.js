/**
 * Bringing conversations in from files: a dialog that says how far it is, can be stopped, and tells at the end what came and what did not
 * and why. Files are read in a worker (exchange/), and go to the shelf one conversation at a time: what is in is in, whatever follows.
 */

import { shelve } from '../exchange/shelve.js';
import { element } from '../dom.js';
import { bytes, number } from '../figures.js';
import { catalogue } from '../strings.js';
import { ShelfError } from '../shelf/errors.js';

/** @import {Note} from '../exchange/rows.js' */
/** @import {Step} from '../exchange/read.js' */
/** @import {Shelf} from '../shelf.js' */

const words = catalogue.exchange;
const SHOWN_NOTES = 100;

/** @typedef {Record<'added'|'grown'|'same'|'copied'|'restored', number>} Counts */

export class Import {
  #shelf;
  #script;
  #dialog = element('dialog', 'fatal sheet import');
  #bar = element('progress');
  #doing = element('p', 'doing');
  #acts = element('div', 'acts');
  /** @type {Note[]} */ #notes = [];
  #more = 0;
  /** @type {Counts} */ #counts = { added: 0, grown: 0, same: 0, copied: 0, restored: 0 };
  /** @type {(() => void)|null} */ #stop = null;

  /** @param {Shelf} shelf @param {URL} script of the worker */
  constructor(shelf, script) {
    this.#shelf = shelf;
    this.#script = script;
    this.#dialog.dataset.testid = 'import-dialog';
    this.#dialog.setAttribute('aria-labelledby', 'import-title');
    this.#dialog.addEventListener('close', () => this.#stop?.());
    document.body.append(this.#dialog);
  }

  /** @param {Iterable<File>} files */
  async take(files) {
    if (this.#dialog.open) return;
    this.#begin();
    for (const file of files) {
      this.#doing.textContent = words.reading(file.name, bytes(file.size));
      if (!(await this.#one(file))) break;
    }
    this.#end();
  }

  #begin() {
    this.#notes = [];
    this.#more = 0;
    this.#counts = { added: 0, grown: 0, same: 0, copied: 0, restored: 0 };
    const title = element('h2', '', words.title);
    title.id = 'import-title';
    delete this.#doing.dataset.testid;
    delete this.#dialog.dataset.came;
    this.#bar.removeAttribute('value');
    this.#bar.ariaLabel = words.title;
    this.#doing.setAttribute('role', 'status');
    this.#acts.replaceChildren(button(words.stop, 'import-stop', () => this.#stop?.()));
    this.#dialog.replaceChildren(title, this.#doing, this.#bar, this.#acts);
    this.#dialog.showModal();
  }

  /** @param {File} file @returns {Promise<boolean>} whether the next one may follow */
  #one(file) {
    const worker = new Worker(this.#script, { type: 'module', name: 'exchange' });
    return new Promise((resolve) => {
      const end = (/** @type {boolean} */ on) => (worker.terminate(), (this.#stop = null), resolve(on));
      this.#stop = () => (this.#tell({ say: 'stopped', name: file.name }), end(false));
      worker.onerror = (event) => (event.preventDefault(), this.#tell({ say: 'unreadable', name: event.message || file.name }), end(true));
      worker.onmessage = async (/** @type {MessageEvent<Step|{kind: 'end'}>} */ { data }) => {
        if (data.kind === 'end') end(true);
        else if (data.kind === 'progress') Object.assign(this.#bar, { max: Math.max(data.total, 1), value: Math.min(data.done, data.total) });
        else if (data.kind === 'note') this.#tell({ ...data.note, name: data.note.name ?? file.name });
        else if (await this.#keep(data)) worker.postMessage({ next: true });
        else end(false);
      };
      worker.postMessage({ file });
    });
  }

  /** @param {Extract<Step, {kind: 'found'}>} found @returns {Promise<boolean>} */
  async #keep({ one, notes }) {
    try {
      const { outcome } = await shelve(this.#shelf, one);
      this.#counts[outcome] += 1;
      for (const note of notes) this.#tell(note);
      this.#doing.textContent = words.soFar(this.#came);
      return true;
    } catch (error) {
      console.warn('import:', error);
      this.#tell({ say: error instanceof ShelfError && error.code === 'storage_full' ? 'full' : 'notStored', title: one.conversation.title });
      return !(error instanceof ShelfError && error.code === 'storage_full');
    }
  }

  get #came() {
    const { added, grown, copied, restored } = this.#counts;
    return added + grown + copied + restored;
  }

  /** @param {Note} note */
  #tell(note) {
    if (this.#notes.length < SHOWN_NOTES) this.#notes.push(note);
    else this.#more += 1;
  }

  #end() {
    this.#stop = null;
    if (!this.#dialog.open) this.#dialog.showModal(); // it was closed to stop: what came is said all the same
    const { grown, same, copied, restored } = this.#counts;
    const lines = [words.came(this.#came), grown && words.grown(grown), copied && words.copied(copied), restored && words.restored(restored), same && words.same(same)];
    this.#doing.textContent = lines.filter(Boolean).join(' ');
    this.#doing.dataset.testid = 'import-result';
    this.#dialog.dataset.came = String(this.#came);
    this.#bar.remove();
    if (this.#notes.length) this.#acts.before(this.#list());
    const close = button(words.close, 'import-close', () => this.#dialog.close());
    close.classList.add('strong');
    this.#acts.replaceChildren(close);
    close.focus();
  }

  #list() {
    const list = element('ul', 'notes');
    list.dataset.testid = 'import-notes';
    for (const note of this.#notes) list.append(element('li', '', sentence(note)));
    if (this.#more) list.append(element('li', '', words.moreNotes(number(this.#more))));
    return list;
  }
}

/** @param {Note} note @returns {string} */
function sentence({ say, title = '', count = 1, at = 0, name = '' }) {
  const sayings = /** @type {Record<string, (args: {title: string, count: string, n: number, at: string, name: string}) => string>} */ (words.notes);
  const args = { title: title || catalogue.history.untitled, count: say === 'fileTooLarge' ? bytes(count) : number(count), n: count, at: number(at), name };
  return sayings[say]?.(args) ?? say;
}

/** @param {string} text @param {string} testid @param {() => void} run */
function button(text, testid, run) {
  const made = element('button', 'act', text);
  made.type = 'button';
  made.dataset.testid = testid;
  made.addEventListener('click', run);
  return made;
}
