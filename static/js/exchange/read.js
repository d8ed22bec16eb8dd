/**
 * Reads a file of conversations, whoever wrote it: ours, ChatGPT's (also the archive it comes in), Open WebUI's, or Markdown. One conversation at a
 * time, so that a file of any length costs the memory of its longest conversation; whatever cannot be read is told and left out.
 */

import { base64 } from './base64.js';
import { fromChatGpt, isChatGpt } from './chatgpt.js';
import { fromOpenWebUi, isOpenWebUi } from './openwebui.js';
import { isNewer, isOwn } from './own.js';
import { packed, plain } from './rows.js';
import { Splitter } from './split.js';
import { unmarkdown } from './unmarkdown.js';
import { ZipError, inflated, isZip, members } from './zip.js';

/** @import {Wanted} from './chatgpt.js' */
/** @import {Member} from './zip.js' */
/** @import {Note, Packed} from './rows.js' */

/**
 * @typedef {object} Limits
 * @property {number} file bytes, also of what an archive inflates to
 * @property {number} conversation UTF-16 units of one conversation
 * @property {number} messages of one conversation
 * @property {number} picture bytes of a picture, or of another file, in an archive
 */

/** @type {Limits} */
export const LIMITS = { file: 2 ** 31, conversation: 64 * 2 ** 20, messages: 50_000, picture: 8 * 2 ** 20 };

/** @typedef {{kind: 'progress', done: number, total: number} | {kind: 'found', one: Packed, notes: Note[]} | {kind: 'note', note: Note}} Step */

const LISTS = /(^|\/)(conversations|chat-export)[\w-]*\.json$/i;
/** Pictures by their first bytes: the archive's names may end in `.dat`. */
const PICTURES = /** @type {[string, RegExp][]} */ ([['image/png', /^\x89PNG/], ['image/jpeg', /^\xff\xd8\xff/], ['image/gif', /^GIF8/], ['image/webp', /^RIFF....WEBP/s]]);

/**
 * @param {Blob} blob
 * @param {Limits} [limits]
 * @returns {AsyncGenerator<Step>}
 */
export async function* read(blob, limits = LIMITS) {
  if (blob.size > limits.file) return yield note('fileTooLarge', { count: blob.size });
  try {
    if (await isZip(blob)) yield* fromZip(blob, limits);
    else if (/^[^[{\s\ufeff]/.test((await blob.slice(0, 4096).text()).trimStart())) yield* fromMarkdown(blob, limits);
    else yield* fromText(blob.stream(), blob.size, limits, null);
  } catch (error) {
    if (error instanceof ZipError) yield note(error.message === 'size' ? 'fileTooLarge' : 'badZip');
    else yield note('unreadable', { name: error instanceof Error ? error.message : String(error) });
  }
}

/** @param {string} say @param {Omit<Note, 'say'>} [more] @returns {Step} */
const note = (say, more = {}) => ({ kind: 'note', note: { say, ...more } });

/** @param {Blob} blob @param {Limits} limits @returns {AsyncGenerator<Step>} */
async function* fromZip(blob, limits) {
  const all = await members(blob);
  const lists = all.filter(({ name }) => LISTS.test(name) && !/shared_/i.test(name));
  if (!lists.length) return yield note('emptyZip');
  const total = lists.reduce((sum, { size }) => sum + size, 0);
  let before = 0;
  for (const list of lists) {
    const stream = await inflated(blob, list, limits.file - before);
    for await (const step of fromText(stream, total, limits, { blob, all })) {
      yield step.kind === 'progress' ? { ...step, done: before + step.done } : step;
    }
    before += list.size;
  }
}

/** @param {Blob} blob @param {Limits} limits @returns {AsyncGenerator<Step>} */
async function* fromMarkdown(blob, limits) {
  if (blob.size > limits.conversation) return yield note('fileTooLarge', { count: blob.size });
  const all = unmarkdown(await blob.text());
  if (!all.length) yield note('notJson');
  for (const [index, found] of all.entries()) yield* offered(found, index, limits, null, []);
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @param {number} total bytes
 * @param {Limits} limits
 * @param {{blob: Blob, all: Member[]}|null} archive where its pictures are
 * @returns {AsyncGenerator<Step>}
 */
async function* fromText(stream, total, limits, archive) {
  const splitter = new Splitter(limits.conversation);
  const decoder = new TextDecoder();
  let done = 0;
  for await (const chunk of chunks(stream)) {
    const found = splitter.feed(decoder.decode(chunk, { stream: true }));
    if (!splitter.json || newer(splitter)) break;
    for (const element of found) yield* conversation(element.text, element.index, limits, archive);
    done += chunk.byteLength;
    yield { kind: 'progress', done, total };
  }
  yield* last(splitter, limits, archive);
}

/** @param {Splitter} splitter at the text's end @param {Limits} limits @param {any} archive @returns {AsyncGenerator<Step>} */
async function* last(splitter, limits, archive) {
  if (!splitter.json || splitter.empty) return yield note('notJson');
  if (newer(splitter)) return yield note('newerFile');
  if (splitter.rest) return yield note('cutOff', { at: splitter.rest.at, count: splitter.rest.index + 1 });
  if (!splitter.listed) return yield* conversation(splitter.header, 0, limits, archive);
  if (!splitter.whole) yield note('cutAfter');
}

/** @param {Splitter} splitter @returns {boolean} whether what comes before the list says that only a later page can read it */
function newer(splitter) {
  const text = splitter.header ?? '';
  if (!splitter.listed || !text.startsWith('{')) return false;
  return isNewer(parsed(text.trimEnd().endsWith(']}') ? text : `${text}]}`));
}

/**
 * @param {string|null} text
 * @param {number} index
 * @param {Limits} limits
 * @param {{blob: Blob, all: Member[]}|null} archive
 * @returns {AsyncGenerator<Step>}
 */
async function* conversation(text, index, limits, archive) {
  if (text === null) return yield note('tooLarge', { at: index + 1 });
  const element = parsed(text);
  if (element === undefined) return yield note('damaged', { at: index + 1 });
  if (isNewer(element)) return yield note('newerFile');
  /** @type {Note[]} */
  const notes = [];
  const found = plain(element) ? rows(element, notes) : null;
  if (!found) return yield note('notAConversation', { at: index + 1 });
  yield* offered(found, index, limits, archive, notes);
}

/**
 * @param {{row: Record<string, any>, nodes: any}} found
 * @param {number} index
 * @param {Limits} limits
 * @param {{blob: Blob, all: Member[]}|null} archive
 * @param {Note[]} notes
 * @returns {AsyncGenerator<Step>}
 */
async function* offered(found, index, limits, archive, notes) {
  if (found.row.v > 1) return yield note('newerRow', { title: title(found.row), at: index + 1 });
  if (Array.isArray(found.nodes) && found.nodes.length > limits.messages) return yield note('tooManyMessages', { title: title(found.row), at: index + 1 });
  await pictures(found.nodes, archive, limits, notes, title(found.row));
  const one = packed(found.row, found.nodes, notes);
  if (one) yield { kind: 'found', one, notes: notes.map((each) => ({ at: index + 1, ...each })) };
  else yield note('notAConversation', { at: index + 1 });
}

/** @param {Record<string, any>} row */
const title = (row) => (typeof row.title === 'string' ? row.title.slice(0, 80) : '');

/** @param {Record<string, any>} element @param {Note[]} notes @returns {{row: Record<string, any>, nodes: any}|null} */
function rows(element, notes) {
  if (isOwn(element)) return { row: element.conversation, nodes: element.nodes };
  if (isChatGpt(element)) return fromChatGpt(element, notes);
  return isOpenWebUi(element) ? fromOpenWebUi(element) : null;
}

/** Puts the archive's files where they belong. @param {any} nodes @param {any} archive @param {Limits} limits @param {Note[]} notes @param {string} named */
async function pictures(nodes, archive, limits, notes, named) {
  let lost = 0;
  for (const node of Array.isArray(nodes) ? nodes : []) {
    if (!plain(node)) continue;
    const all = Array.isArray(node.wanted) && Array.isArray(node.attachments) ? node.wanted.filter((/** @type {any} */ one) => plain(one) && typeof one.id === 'string') : [];
    for (const wanted of /** @type {Wanted[]} */ (all)) {
      const found = archive && (await file(archive, wanted, limits));
      if (found) node.attachments.push(found);
      else lost += 1;
    }
    lost += typeof node.lost === 'number' ? node.lost : 0;
    delete node.wanted;
    delete node.lost;
  }
  if (lost) notes.push({ say: 'attachmentLost', title: named, count: lost });
}

/** @param {{blob: Blob, all: Member[]}} archive @param {Wanted} wanted @param {Limits} limits @returns {Promise<any>} null for what is not there or cannot be shown */
async function file({ blob, all }, { id, name }, limits) {
  const found = id ? all.find(({ name: path }) => path.slice(path.lastIndexOf('/') + 1).startsWith(id)) : undefined;
  if (!found || found.size > limits.picture) return null;
  try {
    const bytes = new Uint8Array(await new Response(await inflated(blob, found, limits.picture)).arrayBuffer());
    const called = name || found.name.slice(found.name.lastIndexOf('/') + 1);
    const start = String.fromCharCode(...bytes.slice(0, 12));
    const [mime] = PICTURES.find(([, begins]) => begins.test(start)) ?? [];
    if (mime) return { kind: 'image', name: called, mime, data: `data:${mime};base64,${base64(bytes)}` };
    const data = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return data.includes('\0') ? null : { kind: 'text', name: called, mime: 'text/plain', data };
  } catch {
    return null; // damaged, or neither a picture nor text: counted as lost
  }
}

/** @param {string} text @returns {any} undefined for what is no JSON */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {ReadableStream<Uint8Array>} stream @returns {AsyncGenerator<Uint8Array>} */
async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
  } finally {
    void reader.cancel().catch(() => {});
  }
}
