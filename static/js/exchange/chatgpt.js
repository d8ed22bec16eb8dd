/**
 * ChatGPT's export (facts: conversations.json, a list of `{title, create_time, update_time, current_node, mapping}`): `mapping` is the
 * tree, `{id, parent, children, message}` by id, with hidden messages (system, custom instructions, tools' noise) between those seen.
 *
 * What was seen is kept, under the nearest message above it that was seen. What an assistant said in several pieces (code, its output,
 * a document of the canvas, text) is one message, as it was on the screen, with its reasoning folded away. Files are in the archive
 * beside the list; `wanted` names them.
 */

import { documentIn, shown as shownDocument } from './canvas.js';
import { fenced } from './markdown.js';
import { Tally, plain } from './rows.js';

/** @import {Document} from './canvas.js' */
/** @import {Note} from './rows.js' */

/**
 * @typedef {{id: string, name: string}} Wanted a file by the beginning of its name in the archive, and what it was called
 * @typedef {{id: string, parent: string|null, role: string, text: string, thought?: string, createdAt?: number, model: string|null,
 *   state: string, attachments: any[], wanted: Wanted[]}} Seen
 */

/** @param {Record<string, any>} element */
export const isChatGpt = (element) => plain(element.mapping);

/**
 * @param {Record<string, any>} element one conversation
 * @param {Note[]} notes
 * @returns {{row: Record<string, any>, nodes: Seen[]}}
 */
export function fromChatGpt(element, notes) {
  const told = new Tally();
  const seen = joined(order(element.mapping, told));
  const title = typeof element.title === 'string' ? element.title : '';
  const row = {
    id: element.conversation_id ?? element.id ?? { title, at: element.create_time },
    title,
    titled: title !== '' && title !== 'New chat',
    createdAt: ms(element.create_time),
    updatedAt: ms(element.update_time) ?? ms(element.create_time),
    pinned: element.is_starred === true || typeof element.pinned_time === 'number',
    leaf: seen.home.get(element.current_node) ?? null,
  };
  notes.push(...told.notes(title));
  return { row, nodes: seen.nodes };
}

/** @param {unknown} seconds */
const ms = (seconds) => (typeof seconds === 'number' && Number.isFinite(seconds) ? Math.round(seconds * 1000) : undefined);

/**
 * @param {Record<string, any>} mapping
 * @param {Tally} told
 * @returns {{id: string, parent: string|null, seen: Seen|null}[]} parents before their children; those in circles come last, without a parent
 */
function order(mapping, told) {
  const children = new Map();
  const roots = [];
  for (const [id, node] of Object.entries(mapping)) {
    const parent = plain(node) && typeof node.parent === 'string' ? node.parent : null;
    if (parent === null || !Object.hasOwn(mapping, parent)) roots.push(id);
    else if (children.has(parent)) children.get(parent).push(id);
    else children.set(parent, [id]);
    if (parent !== null && !Object.hasOwn(mapping, parent)) told.add('noParent');
  }
  /** @type {{id: string, parent: string|null, seen: Seen|null}[]} */
  const found = [];
  /** @type {Map<string|null, Document|null>} the canvas' document as it is after a message */
  const documents = new Map();
  const done = new Set();
  const walk = (/** @type {string} */ root) => {
    const waiting = [{ id: root, parent: /** @type {string|null} */ (null) }];
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const { id, parent } = next;
      if (done.has(id)) continue;
      done.add(id);
      const document = documentIn(mapping[id], documents.get(parent) ?? null);
      documents.set(id, document ?? documents.get(parent) ?? null);
      found.push({ id, parent, seen: seenOf(id, mapping[id], document, told) });
      for (const child of [...(children.get(id) ?? [])].reverse()) waiting.push({ id: child, parent: id });
    }
  };
  roots.forEach(walk);
  for (const id of Object.keys(mapping)) {
    if (!done.has(id)) told.add('circle');
    walk(id);
  }
  return found;
}

/**
 * @param {{id: string, parent: string|null, seen: Seen|null}[]} nodes
 * @returns {{nodes: Seen[], home: Map<string, string|null>}} `home`: where each message of the file is now
 */
function joined(nodes) {
  /** @type {Map<string, string|null>} */
  const home = new Map();
  /** @type {Map<string, Seen>} */
  const all = new Map();
  /** @type {Map<string|null, number>} */
  const forks = new Map();
  for (const { parent } of nodes) forks.set(parent, (forks.get(parent) ?? 0) + 1);
  for (const { id, parent, seen } of nodes) {
    const above = parent === null ? null : (home.get(parent) ?? null);
    const last = above === null ? undefined : all.get(above);
    const only = (forks.get(parent) ?? 0) < 2;
    if (!seen) home.set(id, above);
    else if (last && only && last.role === 'assistant' && seen.role === 'assistant') {
      last.text = [last.text, seen.text].filter(Boolean).join('\n\n');
      if (seen.thought) last.thought = [last.thought, seen.thought].filter(Boolean).join('\n\n');
      last.wanted.push(...seen.wanted);
      last.model ??= seen.model;
      home.set(id, above);
    } else {
      all.set(id, { ...seen, parent: above });
      home.set(id, id);
    }
  }
  return { nodes: [...all.values()], home };
}

/**
 * @param {string} id
 * @param {any} node
 * @param {Document|null} document that it wrote on the canvas
 * @param {Tally} told
 * @returns {Seen|null} null for what nobody was shown
 */
function seenOf(id, node, document, told) {
  const message = plain(node) ? node.message : undefined;
  if (message === null) return null;
  if (!plain(message) || !plain(message.content)) return told.add('notAMessage'), null;
  const { author, content, recipient = 'all' } = message;
  const metadata = plain(message.metadata) ? message.metadata : {};
  const role = plain(author) ? author.role : undefined;
  if (role !== 'user' && role !== 'assistant' && role !== 'tool') return null;
  if (metadata.is_visually_hidden_from_conversation === true) return null;
  const text = document ? shownDocument(document) : said(content, role, recipient, metadata);
  const thought = role === 'assistant' && content.content_type === 'thoughts' ? thoughts(content.thoughts) : '';
  const wanted = files(content, metadata, role);
  if (!text.trim() && !thought && !wanted.length) return null;
  return {
    id,
    parent: null,
    role: role === 'user' ? 'user' : 'assistant',
    text,
    ...(thought ? { thought } : {}),
    state: message.status === 'in_progress' ? 'stopped' : 'done',
    model: typeof metadata.model_slug === 'string' ? metadata.model_slug : null,
    attachments: [],
    wanted,
    ...(ms(message.create_time) === undefined ? {} : { createdAt: ms(message.create_time) }),
  };
}

/**
 * @param {Record<string, any>} content
 * @param {string} role
 * @param {unknown} recipient
 * @param {Record<string, any>} metadata
 * @returns {string}
 */
function said(content, role, recipient, metadata) {
  const parts = Array.isArray(content.parts) ? content.parts : [];
  const kind = content.content_type;
  const text = typeof content.text === 'string' ? content.text : parts.map(partText).filter(Boolean).join('\n\n');
  if (kind === 'execution_output' || kind === 'code') {
    const shown = role === 'tool' || recipient === 'python' || recipient === 'all';
    if (!text || !shown || metadata.reasoning_status === 'is_reasoning') return '';
    return fenced(text, kind === 'code' && /^[\w+#-]+$/.test(content.language) && content.language !== 'unknown' ? content.language : '');
  }
  if ((kind !== 'text' && kind !== 'multimodal_text') || role === 'tool') return '';
  if (recipient !== 'all' && recipient !== null) return '';
  return role === 'assistant' ? cited(text, metadata.content_references) : text;
}

/** @param {any} part */
const partText = (part) => (typeof part === 'string' ? part : plain(part) && typeof part.text === 'string' ? part.text : '');

/** @param {unknown} list `{summary, content}`, a step of the reasoning each @returns {string} */
function thoughts(list) {
  const steps = Array.isArray(list) ? list.filter(plain) : [];
  const one = (/** @type {any} */ { summary, content }) => [typeof summary === 'string' && summary ? `**${summary}**` : '', typeof content === 'string' ? content : ''];
  return steps.flatMap(one).filter(Boolean).join('\n\n');
}

/**
 * Marks of sources in the text become the links that they stood for; marks of which the file tells nothing go.
 * @param {string} text
 * @param {unknown} references `{matched_text, alt}`
 */
function cited(text, references) {
  let plainText = text;
  for (const one of Array.isArray(references) ? references : []) {
    if (!plain(one) || typeof one.matched_text !== 'string' || !one.matched_text.trim()) continue;
    plainText = plainText.replaceAll(one.matched_text, () => (typeof one.alt === 'string' ? one.alt : ''));
  }
  return plainText.replace(/\ue200[^\ue201]*\ue201/g, '').replace(/【\d+(?::\d+)?†[^】]{0,80}】/g, '');
}

/**
 * Pictures in the text, and files beside it.
 * @param {Record<string, any>} content
 * @param {Record<string, any>} metadata
 * @param {string} role
 * @returns {Wanted[]}
 */
function files(content, metadata, role) {
  const parts = Array.isArray(content.parts) ? content.parts : [];
  const pictures = parts.flatMap((part) => (plain(part) && typeof part.asset_pointer === 'string' ? [{ id: asset(part.asset_pointer), name: '' }] : []));
  const beside = role === 'user' && Array.isArray(metadata.attachments) ? metadata.attachments.filter((one) => plain(one) && typeof one.id === 'string') : [];
  const named = beside.map(({ id, name }) => ({ id, name: typeof name === 'string' ? name : '' }));
  return [...pictures, ...named.filter(({ id }) => !pictures.some((picture) => picture.id === id))];
}

/** `file-service://file-Ab1` and `sediment://file_00ff` name their file by its beginning. @param {string} pointer */
const asset = (pointer) => pointer.slice(pointer.indexOf('://') + 3).split(/[#?]/)[0] ?? '';
