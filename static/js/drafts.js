/**
 * Drafts: what was typed and not sent, by conversation, and the files beside it. A new conversation's draft belongs to its tab; one of a
 * stored conversation is there in the next visit too, and gone with the conversation. Of a temporary conversation nothing is written
 * anywhere.
 */

import { keep as keepFiles, load } from './draftfiles.js';
import { readStored, writeStored } from './stored.js';

/** @import {Attachment} from './protocol.js' */

const NEW = 'hybr:draft';
const TAB = 'hybr:draft-files';
const MOST = 50;

/** @typedef {{id: string, stored?: boolean, temporary?: boolean}} Place the open conversation */
/** @typedef {{text: string, files: Attachment[]}} Draft */

export class Drafts {
  /** @type {Map<string, Draft>} what this page knows */
  #here = new Map();

  /** @param {Place|null} place @returns {Draft} as far as it is at hand: see `coming` */
  get(place) {
    const known = this.#here.get(name(place));
    if (known || place?.temporary) return known ?? { text: '', files: [] };
    const kept = place?.stored ? drafts()[place.id]?.text : session(NEW);
    return { text: kept ?? '', files: [] };
  }

  /**
   * Files that an earlier page has kept; they are added to those of the draft. To be asked before the first `set`.
   * @param {Place|null} place
   * @returns {Promise<Attachment[]>|null} null where all is at hand
   */
  coming(place) {
    const key = keyOf(place, false);
    if (this.#here.has(name(place)) || !key) return null;
    return load(key).then((files) => {
      const { text, files: own } = this.get(place);
      this.#here.set(name(place), { text, files: [...files, ...own] });
      if (files.length && own.length) void keepFiles(key, [...files, ...own]); // one was attached before they were here
      return files;
    });
  }

  /** @param {Place|null} place @param {Draft} draft */
  set(place, draft) {
    const before = this.#here.get(name(place))?.files ?? [];
    this.#here.set(name(place), draft);
    if (place?.temporary) return;
    if (place?.stored) keep(place.id, draft.text);
    else keepSession(NEW, draft.text);
    if (same(before, draft.files)) return;
    const key = keyOf(place, true);
    if (key) void keepFiles(key, draft.files);
  }

  /** A new conversation has got its place on the shelf. @param {Place} place */
  settle(place) {
    const draft = this.#here.get(name(null));
    if (draft?.files.length) this.set(null, { text: '', files: [] });
    this.#here.delete(name(null));
    keepSession(NEW, '');
    if (draft) this.set(place, draft);
  }

  /** A conversation is gone for good. @param {string} id */
  forget(id) {
    this.#here.delete(id);
    keep(id, '');
    void keepFiles(id, []);
  }
}

/** @param {Place|null} place */
const name = (place) => (place?.stored || place?.temporary ? place.id : '');

/** @param {Place|null} place @param {boolean} make one for this tab @returns {string|null} under which its files are kept */
function keyOf(place, make) {
  if (place?.temporary) return null;
  if (place?.stored) return place.id;
  const known = session(TAB);
  if (known || !make) return known;
  keepSession(TAB, `tab ${crypto.randomUUID()}`);
  return session(TAB);
}

/** @param {Attachment[]} before @param {Attachment[]} after */
const same = (before, after) => before.length === after.length && before.every((one, index) => one === after[index]);

/** @returns {Record<string, {text: string, at: number}|null>} */
const drafts = () => /** @type {any} */ (readStored().drafts ?? {});

/** @param {string} id @param {string} text */
function keep(id, text) {
  const { [id]: before, ...others } = drafts();
  if (!text && !before) return;
  const kept = Object.entries(others).filter(([, one]) => one).sort(([, a], [, b]) => (b?.at ?? 0) - (a?.at ?? 0)).slice(0, MOST - 1);
  writeStored('drafts', { ...Object.fromEntries(kept), ...(text ? { [id]: { text, at: Date.now() } } : {}) });
}

/** @param {string} key @returns {string|null} what this tab has kept */
function session(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null; // storage is denied: drafts last as long as the page
  }
}

/** @param {string} key @param {string} text */
function keepSession(key, text) {
  try {
    if (text) sessionStorage.setItem(key, text);
    else sessionStorage.removeItem(key);
  } catch {
    // As above.
  }
}
