/** What goes along with the next message: files by button, paste or drop, each a chip with name and size that a key removes. */

import { picture, size } from './attached.js';
import { element, icon } from './dom.js';
import { FileError, LIMITS, read } from './files.js';
import { catalogue } from './strings.js';

/** @import {Attachment} from './protocol.js' */

const words = catalogue.composer;

export class Tray {
  #list;
  #say;
  #onChange;
  /** @type {Attachment[]} */
  #files = [];
  #reading = 0;

  /**
   * @param {HTMLElement} list its chips
   * @param {(text: string, refused?: boolean) => void} say tells the person what became of a file
   * @param {() => void} onChange
   */
  constructor(list, say, onChange) {
    this.#list = list;
    this.#say = say;
    this.#onChange = onChange;
    list.addEventListener('click', ({ target }) => {
      const chip = target instanceof Element ? target.closest('li') : null;
      if (chip && /** @type {Element} */ (target).closest('button')) this.#remove([...list.children].indexOf(chip));
    });
    list.addEventListener('keydown', (event) => this.#key(event));
  }

  /** @returns {Attachment[]} */
  get files() {
    return [...this.#files];
  }

  get images() {
    return this.#files.some(({ kind }) => kind === 'image');
  }

  /** Whether a file is still being read. */
  get reading() {
    return this.#reading > 0;
  }

  /** @param {Attachment[]} files in place of what there is */
  set(files) {
    this.#files = [...files];
    this.#draw();
  }

  /**
   * Reads files and attaches them, in their order.
   * @param {Iterable<File>} files
   */
  async add(files) {
    this.#reading += 1;
    const found = await Promise.allSettled([...files].map(read));
    this.#reading -= 1;
    const said = [];
    let refused = false;
    for (const one of found) {
      if (one.status === 'rejected') {
        refused = true;
        if (one.reason instanceof FileError) said.push(one.reason.message);
        else throw one.reason;
      } else if (this.#files.length >= LIMITS.files) {
        refused = true;
        said.push(words.tooMany(LIMITS.files));
        break;
      } else {
        this.#files.push(one.value.file);
        said.push(one.value.note);
      }
    }
    this.#draw();
    if (said.length) this.#say(said.join(' '), refused);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const buttons = [...this.#list.querySelectorAll('button')];
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (event.target));
    if (at < 0) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === 'Delete' || event.key === 'Backspace') this.#remove(at);
    else if (to !== undefined) buttons[Math.min(Math.max(to, 0), buttons.length - 1)]?.focus();
    else return;
    event.preventDefault();
  }

  /** @param {number} at */
  #remove(at) {
    const [gone] = this.#files.splice(at, 1);
    if (!gone) return;
    this.#draw();
    this.#say(words.removed(gone.name));
    const next = this.#list.querySelectorAll('button')[Math.min(at, this.#files.length - 1)];
    if (next) next.focus();
    else this.#list.closest('form')?.querySelector('textarea')?.focus();
  }

  #draw() {
    this.#list.hidden = this.#files.length === 0;
    this.#list.replaceChildren(...this.#files.map(chip));
    this.#onChange();
  }
}

/** @param {Attachment} file */
function chip(file) {
  const item = element('li', 'chip');
  const remove = element('button', 'close');
  remove.type = 'button';
  remove.ariaLabel = words.removeFile(file.name);
  remove.append(icon('close'));
  item.dataset.testid = 'attachment';
  item.dataset.kind = file.kind;
  item.append(preview(file), element('span', 'name', file.name), element('span', 'size', size(file)), remove);
  return item;
}

/** @param {Attachment} file */
function preview(file) {
  const address = picture(file);
  if (!address) return icon('file');
  const image = element('img');
  image.src = address;
  image.alt = '';
  return image;
}
