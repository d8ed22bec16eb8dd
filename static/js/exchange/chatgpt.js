/**
 * ChatGPT's export (facts: conversations.json, a list of `{title, create_time, update_time, current_node, mapping}`): `mapping` is the
 * tree, `{id, parent, children, message}` by id, with hidden messages (system, tools' noise, reasoning) between those that were seen.
 *
 * What was seen is kept, under the nearest message above it that was seen. What an assistant said in several pieces (code, its output,
 * text) is one message, as it was on the screen. Pictures are in the archive beside the list; `wanted` names them.
 */

import { Tally, plain } from './rows.js';

/** @import {Note} from './rows.js' */

/**
 * @typedef {{id: string, parent: string|null, role: string, text: string, createdAt?: number, model: string|null, state: string,
 *   attachments: any[], wanted: string[]}} Seen
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
    titled: title !== '',
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
  const done = new Set();
  const walk = (/** @type {string} */ root) => {
    const waiting = [{ id: root, parent: /** @type {string|null} */ (null) }];
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const { id, parent } = next;
      if (done.has(id)) continue;
      done.add(id);
      found.push({ id, parent, seen: seenOf(id, mapping[id], told) });
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
 * @param {Tally} told
 * @returns {Seen|null} null for what nobody was shown
 */
function seenOf(id, node, told) {
  const message = plain(node) ? node.message : undefined;
  if (message === null) return null;
  if (!plain(message) || !plain(message.content)) return told.add('notAMessage'), null;
  const { author, content, metadata, recipient = 'all' } = message;
  const role = plain(author) ? author.role : undefined;
  if (role !== 'user' && role !== 'assistant' && role !== 'tool') return null;
  if (plain(metadata) && metadata.is_visually_hidden_from_conversation === true) return null;
  const { text, wanted } = said(content, role, recipient);
  if (!text.trim() && !wanted.length) return null;
  return {
    id,
    parent: null,
    role: role === 'user' ? 'user' : 'assistant',
    text,
    state: message.status === 'in_progress' ? 'stopped' : 'done',
    model: plain(metadata) && typeof metadata.model_slug === 'string' ? metadata.model_slug : null,
    attachments: [],
    wanted,
    ...(ms(message.create_time) === undefined ? {} : { createdAt: ms(message.create_time) }),
  };
}

/**
 * @param {Record<string, any>} content
 * @param {string} role
 * @param {unknown} recipient
 * @returns {{text: string, wanted: string[]}}
 */
function said(content, role, recipient) {
  const parts = Array.isArray(content.parts) ? content.parts : [];
  const kind = content.content_type;
  const text = typeof content.text === 'string' ? content.text : parts.map(partText).filter(Boolean).join('\n\n');
  const wanted = parts.flatMap((part) => (plain(part) && typeof part.asset_pointer === 'string' ? [asset(part.asset_pointer)] : []));
  if (kind === 'execution_output' || kind === 'code') return { text: text && (role === 'tool' || recipient === 'python' || recipient === 'all') ? fenced(text) : '', wanted };
  if (kind !== 'text' && kind !== 'multimodal_text') return { text: '', wanted: [] };
  if (role === 'tool') return { text: '', wanted };
  return recipient === 'all' || recipient === null ? { text, wanted } : { text: '', wanted: [] };
}

/** @param {any} part */
const partText = (part) => (typeof part === 'string' ? part : plain(part) && typeof part.text === 'string' ? part.text : '');

/** `file-service://file-Ab1` and `sediment://file_00ff` name their file by its beginning. @param {string} pointer */
const asset = (pointer) => pointer.slice(pointer.indexOf('://') + 3).split(/[#?]/)[0] ?? '';

/** @param {string} text @returns {string} as a code block that the text cannot end */
export function fenced(text) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}
