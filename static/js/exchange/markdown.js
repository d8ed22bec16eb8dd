/** A conversation as Markdown, to be read anywhere: the branch that is shown, or that and all others. */

import { fenced } from './chatgpt.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */

/**
 * @typedef {object} MarkdownWords
 * @property {string} you
 * @property {string} assistant
 * @property {string} system
 * @property {string} untitled
 * @property {string} picture
 * @property {(n: number, after: string) => string} branch the heading of another branch, and what it follows
 * @property {string} fromStart
 */

/**
 * @param {{conversation: Row, nodes: NodeRow[]}} one
 * @param {{branches: boolean, words: MarkdownWords}} how
 * @returns {string}
 */
export function markdown({ conversation, nodes }, { branches, words }) {
  const all = new Map(nodes.map((node) => [node.id, node]));
  const shown = path(conversation.leaf ?? endOf(nodes), all);
  const parts = [`# ${line(conversation.title) || words.untitled}`, new Date(conversation.createdAt).toISOString().slice(0, 10)];
  parts.push(...shown.map((node) => message(node, words)));
  if (branches) parts.push(...others(nodes, all, shown, words));
  return `${parts.join('\n\n')}\n`;
}

/** Each other branch from where it leaves those before it, so that every message is there once. @param {NodeRow[]} nodes @param {Map<string, NodeRow>} all @param {NodeRow[]} shown @param {MarkdownWords} words */
function others(nodes, all, shown, words) {
  const written = new Set(shown.map(({ id }) => id));
  const parents = new Set(nodes.map(({ parent }) => parent));
  const parts = [];
  let count = 1;
  for (const leaf of nodes.filter(({ id }) => !parents.has(id))) {
    const fresh = path(leaf.id, all).filter(({ id }) => !written.has(id));
    const [first] = fresh;
    if (!first) continue;
    const after = first.parent === null ? words.fromStart : line(all.get(first.parent)?.text ?? '').slice(0, 80);
    parts.push('---', `# ${words.branch((count += 1), after)}`, ...fresh.map((node) => message(node, words)));
    for (const { id } of fresh) written.add(id);
  }
  return parts;
}

/** @param {string|null} leaf @param {Map<string, NodeRow>} all @returns {NodeRow[]} from the root */
export function path(leaf, all) {
  /** @type {Set<NodeRow>} */
  const found = new Set();
  for (let at = all.get(leaf ?? ''); at && !found.has(at); at = all.get(at.parent ?? '')) found.add(at);
  return [...found].reverse();
}

/** @param {NodeRow[]} nodes @returns {string|null} the newest message */
const endOf = (nodes) => [...nodes].sort((a, b) => (a.createdAt ?? 0) - (b.createdAt ?? 0)).at(-1)?.id ?? null;

/** @param {NodeRow} node @param {MarkdownWords} words */
function message(node, words) {
  const who = node.role === 'user' ? words.you : node.role === 'system' ? words.system : words.assistant;
  const model = typeof (/** @type {any} */ (node).model) === 'string' ? ` (${line(/** @type {any} */ (node).model)})` : '';
  const attached = (node.attachments ?? []).map((one) => (one.kind === 'text' ? `**${line(one.name)}**\n\n${fenced(one.data)}` : `*${words.picture}: ${line(one.name)}*`));
  return [`## ${who}${model}`, ...attached, node.text ?? ''].join('\n\n').trimEnd();
}

/** @param {string} text @returns {string} on one line */
const line = (text) => text.replace(/\s+/g, ' ').trim();
