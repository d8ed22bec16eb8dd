/**
 * Full text over all messages of all branches, in memory: built from the shelf in idle time, kept up to date by its changes.
 *
 * Only the folded text is kept (lower case, no accents, one unit for each of the original's, so that a place in one is the same place
 * in the other); the text for a snippet is read when it is shown. Words are found anywhere, `"some words"` as they stand; all of them
 * must be in one message, or in a title.
 */

/** @import {NodeRow, Row} from './shelf/change.js' */
/** @import {Changed, Shelf} from './shelf.js' */

/** @typedef {{conversation: string, title: boolean, nodes: {id: string, at: number}[], more: number}} Hit the newest messages first */

/** Messages shown of one conversation, and conversations of one search. */
export const SHOWN = { messages: 3, conversations: 50 };

/** @type {Map<string, string>} */
const folds = new Map();

/** @param {string} text @returns {string} as long as the text in its NFC form, without case and accents */
export function fold(text) {
  const plain = text.normalize('NFC');
  const low = plain.toLowerCase();
  // A few capitals get longer in lower case (Turkish İ); then each letter is folded by itself.
  return (low.length === plain.length ? low : [...plain].map((one) => (one.toLowerCase().length === one.length ? one.toLowerCase() : one)).join('')).replace(
    /[^\0-\x7f]/g,
    (one) => folds.get(one) ?? remember(one),
  );
}

/** @param {string} one unit @returns {string} one unit */
function remember(one) {
  const bare = one.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
  const folded = bare.length === 1 ? bare : one;
  folds.set(one, folded);
  return folded;
}

/** @param {string} query @returns {string[]} what must be found, folded */
export const words = (query) => [...fold(query).matchAll(/"([^"]+)"?|[^\s"]+/g)].map(([word, quoted]) => (quoted ?? word).trim()).filter(Boolean);

/**
 * Where a message says it.
 * @param {string} text
 * @param {string} query
 * @param {number} [around] units before the first word
 * @returns {{text: string, marked: boolean}[]} one line, in pieces
 */
export function snippet(text, query, around = 32) {
  const wanted = words(query);
  const plain = text.normalize('NFC');
  const folded = fold(plain);
  const places = wanted.map((word) => folded.indexOf(word)).filter((at) => at >= 0);
  const from = begin(plain, Math.min(...places, plain.length) - around);
  const cut = plain.slice(from, from + 5 * around).replace(/\s/g, ' ');
  const pieces = from > 0 ? [{ text: '…', marked: false }] : [];
  return [...pieces, ...marked(cut, wanted)];
}

/** @param {string} text @param {number} at @returns {number} the beginning of a word, not inside a pair of surrogates */
function begin(text, at) {
  if (at <= 0) return 0;
  const space = text.slice(at, at + 16).search(/\s/);
  const from = space < 0 ? at : at + space + 1;
  return /[\udc00-\udfff]/.test(text[from] ?? '') ? from + 1 : from;
}

/** @param {string} text @param {string[]} wanted folded @returns {{text: string, marked: boolean}[]} */
export function marked(text, wanted) {
  const plain = text.normalize('NFC');
  const folded = fold(plain);
  const pieces = [];
  let at = 0;
  while (at < plain.length) {
    const found = wanted.map((word) => ({ from: folded.indexOf(word, at), word })).filter(({ from }) => from >= 0);
    const first = found.sort((a, b) => a.from - b.from || b.word.length - a.word.length)[0];
    if (!first) break;
    if (first.from > at) pieces.push({ text: plain.slice(at, first.from), marked: false });
    at = first.from + first.word.length;
    pieces.push({ text: plain.slice(first.from, at), marked: true });
  }
  if (at < plain.length) pieces.push({ text: plain.slice(at), marked: false });
  return pieces;
}

/** The index itself; pure. */
export class Index {
  /** @type {Map<string, {title: string, at: number, nodes: Map<string, {text: string, at: number}>}>} */
  #all = new Map();

  /** Messages in it. */
  get size() {
    return [...this.#all.values()].reduce((sum, { nodes }) => sum + nodes.size, 0);
  }

  /** @param {string} id @returns {boolean} */
  has(id) {
    return this.#all.has(id);
  }

  /** @param {Row} row @param {NodeRow[]} nodes those that are new or changed @param {string[]} [drop] ids of those that are gone */
  put(row, nodes, drop = []) {
    const known = this.#all.get(row.id)?.nodes ?? new Map();
    for (const node of nodes) known.set(node.id, { text: fold(searched(node)), at: node.createdAt ?? 0 });
    for (const id of drop) known.delete(id);
    this.#all.set(row.id, { title: fold(row.title ?? ''), at: row.updatedAt, nodes: known });
  }

  /** @param {string} id */
  drop(id) {
    this.#all.delete(id);
  }

  /** @param {string} query @returns {Hit[]} the conversation that was used last first */
  search(query) {
    const wanted = words(query);
    if (!wanted.length) return [];
    const hits = [];
    for (const [conversation, { title, at, nodes }] of this.#all) {
      const found = [];
      for (const [id, { text, at: written }] of nodes) if (wanted.every((word) => text.includes(word))) found.push({ id, at: written });
      const inTitle = wanted.every((word) => title.includes(word));
      if (!found.length && !inTitle) continue;
      found.sort((a, b) => b.at - a.at);
      const shown = found.slice(0, SHOWN.messages);
      hits.push({ conversation, title: inTitle, nodes: shown, more: found.length - shown.length, at });
    }
    return hits.sort((a, b) => Number(b.title) - Number(a.title) || b.at - a.at).map(({ at: _, ...hit }) => hit);
  }
}

/** @param {NodeRow} node @returns {string} what is searched of a message: its text, and what was attached as text */
const searched = (node) =>
  [node.text ?? '', ...(Array.isArray(node.attachments) ? node.attachments : []).map((one) => (one.kind === 'text' ? `${one.name}\n${one.data}` : (one.name ?? '')))].join('\n').trimEnd();

/** The index over a shelf. */
export class Search {
  #shelf;
  #index = new Index();
  #progress;
  /** @type {Promise<void>|null} */ #built = null;
  /** @type {Set<string>} changed while it is being built */ #early = new Set();
  #hurry = false;

  /** @param {Shelf} shelf @param {() => void} [progress] there is more to find */
  constructor(shelf, progress = () => {}) {
    this.#shelf = shelf;
    this.#progress = progress;
    shelf.onChange((change) => this.#changed(change));
  }

  /** Whether all is in it. */
  complete = false;

  /** @param {boolean} [hurry] the person waits for it: do not wait for idle time @returns {Promise<void>} when all is in it */
  build(hurry = false) {
    this.#hurry ||= hurry;
    this.#built ??= this.#build();
    return this.#built;
  }

  /** @param {string} query @returns {Hit[]} */
  find(query) {
    return this.#index.search(query);
  }

  async #build() {
    let spent = performance.now();
    await this.#rest();
    for await (const { conversation, nodes } of this.#shelf.scan()) {
      if (!this.#early.has(conversation.id)) this.#index.put(conversation, nodes);
      if (performance.now() - spent < 8) continue;
      this.#progress();
      await this.#rest();
      spent = performance.now();
    }
    for (const id of this.#early) await this.#again(id);
    this.#early.clear();
    this.complete = true;
    this.#progress();
  }

  /** Lets the page do its work. */
  #rest() {
    return new Promise((resolve) => {
      if (this.#hurry || !('requestIdleCallback' in globalThis)) setTimeout(resolve, 0);
      else requestIdleCallback(resolve, { timeout: 2000 });
    });
  }

  /** @param {string} id */
  async #again(id) {
    const found = await this.#shelf.read(id).catch(() => null);
    this.#index.drop(id);
    if (found && found.conversation.deletedAt === null) this.#index.put(found.conversation, found.nodes);
  }

  /** @param {Changed} change */
  #changed({ conversation, kind, row, nodes = [], drop = [] }) {
    if (kind === 'removed' || !row || row.deletedAt !== null) this.#index.drop(conversation);
    else if (this.complete && this.#index.has(conversation)) this.#index.put(row, nodes, drop);
    else if (this.complete) void this.#again(conversation).then(this.#progress); // new, or back from a deletion
    if (!this.complete) this.#early.add(conversation);
  }
}
