/** The sheet in which a person turns the encrypted sync on, sees how it stands, pauses it, turns it off, or removes it from the server. */

import { element } from '../dom.js';
import { catalogue } from '../strings.js';
import { SyncError } from '../sync/errors.js';

/** @import {Status, Sync} from '../sync/sync.js' */

const words = catalogue.sync;
const SHORTEST = 12;

export class SyncSheet {
  #sync;
  #dialog = element('dialog', 'fatal sheet sync');
  #status = element('p', 'doing');
  #problem = element('p', 'problem');
  #busy = false;
  #confirming = false;

  /** @param {Sync} sync */
  constructor(sync) {
    this.#sync = sync;
    this.#dialog.dataset.testid = 'sync-dialog';
    this.#dialog.setAttribute('aria-labelledby', 'sync-title');
    this.#status.setAttribute('role', 'status');
    this.#status.dataset.testid = 'sync-status';
    this.#problem.setAttribute('role', 'alert');
    document.body.append(this.#dialog);
  }

  open() {
    this.#confirming = false;
    this.#problem.textContent = '';
    this.#draw();
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  /** @param {Status} status */
  show(status) {
    this.#status.textContent = saying(status);
    this.#status.dataset.state = status.state;
    if (this.#dialog.open && !this.#busy && (status.state === 'off') !== (this.#dialog.dataset.on === 'no')) this.#draw();
  }

  #draw() {
    const { status } = this.#sync;
    const off = status.state === 'off';
    this.#dialog.dataset.on = off ? 'no' : 'yes';
    this.show(status);
    const title = element('h2', '', words.title);
    title.id = 'sync-title';
    const rest = off ? [this.#form()] : [this.#acts(status)];
    this.#dialog.replaceChildren(title, element('p', '', off ? words.what : words.running), ...(off ? [] : [this.#status]), this.#problem, ...rest);
    if (off) void this.#look();
  }

  #form() {
    const form = element('form', 'fields');
    const first = field(words.passphrase, 'sync-passphrase');
    const second = field(words.again, 'sync-again');
    const hint = element('p', 'hint-line', words.hint);
    const send = act(words.turnOn, 'sync-on', () => {}, 'submit');
    send.classList.add('strong');
    const row = element('div', 'acts');
    row.append(act(words.cancel, 'sync-cancel', () => this.#dialog.close()), send);
    form.append(first.label, second.label, hint, row);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const known = form.dataset.known === 'yes';
      const [passphrase, again] = [first.input.value, second.input.value];
      if (!known && passphrase.length < SHORTEST) return this.#complain(words.short(SHORTEST), first.input);
      if (!known && passphrase !== again) return this.#complain(words.differ, second.input);
      void this.#do(() => this.#sync.turnOn(passphrase), first.input);
    });
    return form;
  }

  /** Asks whether the server has a sync of this person's: then its passphrase is wanted, once. */
  async #look() {
    const form = this.#dialog.querySelector('form');
    if (!form) return;
    try {
      const known = await this.#sync.exists();
      form.dataset.known = known ? 'yes' : 'no';
      const again = form.querySelector('[data-testid=sync-again]')?.closest('label');
      if (again) again.hidden = known;
      const hint = form.querySelector('.hint-line');
      if (hint) hint.textContent = known ? words.known : words.hint;
    } catch (error) {
      this.#complain(reason(error));
    }
  }

  /** @param {Status} status */
  #acts(status) {
    const row = element('div', 'acts');
    const paused = status.state === 'paused';
    if (this.#confirming) {
      row.append(act(words.cancel, 'sync-cancel', () => ((this.#confirming = false), this.#draw())));
      const erase = act(words.eraseReally, 'sync-erase-really', () => void this.#do(() => this.#sync.erase()));
      erase.classList.add('danger');
      row.append(erase);
      return row;
    }
    if (!paused) row.append(act(words.now, 'sync-now', () => void this.#do(() => this.#sync.now())));
    row.append(act(paused ? words.goOn : words.pause, 'sync-pause', () => void this.#do(() => this.#sync.pause(!paused))));
    row.append(act(words.turnOff, 'sync-off', () => void this.#do(() => this.#sync.turnOff())));
    row.append(act(words.erase, 'sync-erase', () => ((this.#confirming = true), (this.#problem.textContent = words.eraseWhat), this.#draw(), this.#dialog.querySelector('button')?.focus())));
    const close = act(words.close, 'sync-close', () => this.#dialog.close());
    close.classList.add('strong');
    row.append(close);
    return row;
  }

  /** @param {() => Promise<unknown>} work @param {HTMLElement} [field] */
  async #do(work, field) {
    if (this.#busy) return;
    this.#busy = true;
    this.#confirming = false;
    this.#problem.textContent = '';
    this.#dialog.setAttribute('aria-busy', 'true');
    for (const button of this.#dialog.querySelectorAll('button')) button.disabled = true;
    try {
      await work();
      this.#draw();
    } catch (error) {
      for (const button of this.#dialog.querySelectorAll('button')) button.disabled = false;
      void this.#look(); // another device may have begun one
      this.#complain(reason(error), field);
    }
    this.#busy = false;
    this.#dialog.removeAttribute('aria-busy');
    if (!this.#dialog.contains(document.activeElement)) this.#dialog.querySelector('button')?.focus();
  }

  /** @param {string} text @param {HTMLElement} [field] */
  #complain(text, field) {
    this.#problem.textContent = text;
    field?.focus();
  }
}

/** @param {unknown} error */
const reason = (error) => (error instanceof SyncError ? words.errors[error.code] : (console.warn('sync:', error), words.errors.server));

/** @param {Status} status @returns {string} */
export function saying({ state, code, at, damaged }) {
  const time = at === null ? '' : new Intl.DateTimeFormat(document.documentElement.lang, { hour: '2-digit', minute: '2-digit' }).format(at);
  if (state === 'error') return words.errors[code ?? 'server'];
  if (state === 'idle') return [at === null ? words.states.idle : words.done(time), damaged ? words.damaged(damaged) : ''].filter(Boolean).join(' ');
  return words.states[state];
}

/** @param {string} text @param {string} testid */
function field(text, testid) {
  const label = element('label', 'field');
  const input = element('input');
  Object.assign(input, { type: 'password', required: false, autocomplete: 'off', spellcheck: false });
  input.dataset.testid = testid;
  label.append(element('span', '', text), input);
  return { label, input };
}

/** @param {string} text @param {string} testid @param {() => void} run @param {'button'|'submit'} [type] */
function act(text, testid, run, type = 'button') {
  const made = element('button', 'act', text);
  made.type = type;
  made.dataset.testid = testid;
  made.addEventListener('click', run);
  return made;
}
