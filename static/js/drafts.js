/**
 * Drafts: what was typed and not sent, by conversation, and the files beside it. A new conversation's draft belongs to its tab; one of a
 * stored conversation is there in the next visit too. Of a temporary conversation nothing is written anywhere.
 */

import { assignStored, readStored } from './stored.js';

/** @import {Attachment} from './protocol.js' */

const NEW = 'hybr:draft';
const MOST = 50;

/** @typedef {{id: string, stored?: boolean, temporary?: boolean}} Place the open conversation */
/** @typedef {{text: string, files: Attachment[]}} Draft */

export class Drafts {
  /** @type {Map<string, Draft>} what this page knows */
  #here = new Map();

  /** @param {Place|null} place @returns {Draft} */
  get(place) {
    const known = this.#here.get(name(place));
    if (known || place?.temporary) return known ?? { text: '', files: [] };
    const kept = place?.stored ? drafts()[place.id]?.text : session();
    return { text: kept ?? '', files: [] };
  }

  /** @param {Place|null} place @param {Draft} draft */
  set(place, draft) {
    this.#here.set(name(place), draft);
    if (place?.temporary) return;
    if (place?.stored) keep(place.id, draft.text);
    else keepSession(draft.text);
  }

  /** A new conversation has got its place on the shelf. @param {Place} place */
  settle(place) {
    const draft = this.#here.get(name(null));
    this.#here.delete(name(null));
    keepSession('');
    if (draft) this.set(place, draft);
  }
}

/** @param {Place|null} place */
const name = (place) => (place?.stored || place?.temporary ? place.id : '');

/** @returns {Record<string, {text: string, at: number}|null>} */
const drafts = () => /** @type {any} */ (readStored().drafts ?? {});

/** @param {string} id @param {string} text */
function keep(id, text) {
  const known = drafts();
  if (!text && !known[id]) return;
  const old = Object.entries(known).sort(([, a], [, b]) => (b?.at ?? 0) - (a?.at ?? 0)).slice(MOST).map(([gone]) => [gone, null]);
  assignStored('drafts', { ...Object.fromEntries(old), [id]: text ? { text, at: Date.now() } : null });
}

/** @returns {string|null} the draft of this tab */
function session() {
  try {
    return sessionStorage.getItem(NEW);
  } catch {
    return null; // storage is denied: drafts last as long as the page
  }
}

/** @param {string} text */
function keepSession(text) {
  try {
    if (text) sessionStorage.setItem(NEW, text);
    else sessionStorage.removeItem(NEW);
  } catch {
    // As above.
  }
}
