/**
 * The import and export modules behind a pipe, for Python's tests: a line of JSON in, a line out. The shelf is in memory, with the rules
 * of the real one (static/js/shelf/change.js).
 *
 *     {op: 'read', data: base64, limits?, step?}   -> {found: [Packed], notes: [Note]}; `step`: the file comes in pieces of so many bytes
 *     {op: 'write', conversations: [Packed]}       -> our file's text
 *     {op: 'import', files: [base64], before: [Packed]} -> {outcomes, shelf: {id: Packed}}
 *     {op: 'markdown', one: Packed, branches}      -> text
 *     {op: 'base', one}, {op: 'merge', base, mine, theirs} -> sync/merge.js
 *     {op: 'search', conversations, query}, {op: 'fold', text}, {op: 'snippet', text, query} -> search.js
 */

import { createInterface } from 'node:readline';

import { markdown } from '../../static/js/exchange/markdown.js';
import { head, line, tail } from '../../static/js/exchange/own.js';
import { LIMITS, read } from '../../static/js/exchange/read.js';
import { shelve } from '../../static/js/exchange/shelve.js';
import { applied, idOf, living } from '../../static/js/shelf/change.js';
import { baseOf, merge } from '../../static/js/sync/merge.js';
import { Index, fold, snippet } from '../../static/js/search.js';

class MemoryShelf {
  states = new Map();

  async read(id) {
    const state = this.states.get(id);
    if (!state) throw Object.assign(new Error(id), { code: 'not_found' });
    return { conversation: state.row, nodes: living(state.nodes.values()) };
  }

  async write(change) {
    const id = idOf(change);
    this.states.set(id, applied(this.states.get(id) ?? { row: null, nodes: new Map() }, change));
  }
}

/** A file that comes in small pieces, as a slow disk's would. */
class Pieces extends Blob {
  constructor(bytes, step) {
    super([bytes]);
    this.bytes = bytes;
    this.step = step;
  }

  stream() {
    const { bytes, step } = this;
    let at = 0;
    return new ReadableStream({
      pull(controller) {
        if (at >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(at, at + step));
        at += step;
      },
    });
  }
}

const bytesOf = (data) => new Uint8Array(Buffer.from(data, 'base64'));

async function readAll(data, { limits = {}, step = 0 } = {}) {
  const blob = step ? new Pieces(bytesOf(data), step) : new Blob([bytesOf(data)]);
  const [found, notes] = [[], []];
  for await (const one of read(blob, { ...LIMITS, ...limits })) {
    if (one.kind === 'found') {
      found.push(one.one);
      notes.push(...one.notes);
    } else if (one.kind === 'note') notes.push(one.note);
  }
  return { found, notes };
}

async function imported({ files, before = [] }) {
  const shelf = new MemoryShelf();
  for (const { conversation, nodes } of before) await shelf.write({ conversation, nodes });
  const outcomes = [];
  for (const data of files) for (const one of (await readAll(data)).found) outcomes.push((await shelve(shelf, one)).outcome);
  const all = {};
  for (const id of shelf.states.keys()) all[id] = await shelf.read(id);
  return { outcomes, shelf: all };
}

const WORDS = {
  you: 'You', assistant: 'Assistant', system: 'System', untitled: 'New chat', picture: 'Picture', fromStart: 'the start',
  branch: (n, after) => `Branch ${n}, after: ${after}`,
};

function searched({ conversations, query }) {
  const index = new Index();
  for (const { conversation, nodes } of conversations) index.put(conversation, nodes);
  return index.search(query);
}

const ops = {
  read: (message) => readAll(message.data, message),
  write: ({ conversations }) => head(new Date(0)) + conversations.map(line).join(',\n') + tail,
  import: imported,
  markdown: ({ one, branches }) => markdown(one, { branches, words: WORDS }),
  base: ({ one }) => baseOf(one),
  merge: ({ base, mine, theirs }) => merge(base, mine, theirs),
  search: searched,
  fold: ({ text }) => fold(text),
  snippet: ({ text, query }) => snippet(text, query),
};

for await (const text of createInterface({ input: process.stdin })) {
  const message = JSON.parse(text);
  try {
    process.stdout.write(`${JSON.stringify({ value: (await ops[message.op](message)) ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: String(error?.stack ?? error) })}\n`);
  }
}
