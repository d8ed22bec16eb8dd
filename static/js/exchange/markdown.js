/**
 * A conversation as Markdown, to be read anywhere: the branch that is shown, or that and all others. unmarkdown.js reads it back; what it
 * needs for that (ids, times, where a branch begins) stands in HTML comments behind headings, where a reader does not see it:
 *
 *     # Title <!-- hybr chat ID CREATED UPDATED -->
 *     ## You <!-- hybr user ID CREATED -->                      after the one before it
 *     ## Assistant (model) <!-- hybr assistant ID CREATED after ID -->     the first of a branch; `start`: at the top
 *     **name** <!-- hybr file text/plain -->                    and a block of code
 *     # Branch 2 <!-- hybr branch -->                           to be read over
 *
 * A line of a message that looks like one of these gets a backslash before it.
 */

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

/** A line that means something to unmarkdown.js, or would without the backslashes before it. */
export const OURS = /^(\\*)(?=(?:#{1,2} |\*).*<!-- hybr )/gm;

/**
 * @param {{conversation: Row, nodes: NodeRow[]}} one
 * @param {{branches: boolean, words: MarkdownWords}} how
 * @returns {string}
 */
export function markdown({ conversation, nodes }, { branches, words }) {
  const { id, title, createdAt, updatedAt } = conversation;
  const all = new Map(nodes.map((node) => [node.id, node]));
  const shown = path(conversation.leaf ?? endOf(nodes), all);
  const parts = [`# ${line(title) || words.untitled} <!-- hybr chat ${id} ${createdAt} ${updatedAt} -->`, new Date(createdAt).toISOString().slice(0, 10)];
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
    const [first, ...rest] = fresh;
    if (!first) continue;
    const after = first.parent === null ? words.fromStart : line(all.get(first.parent)?.text ?? '').slice(0, 80);
    const place = first.parent === null ? ' start' : ` after ${first.parent}`;
    parts.push('---', `# ${words.branch((count += 1), after)} <!-- hybr branch -->`, message(first, words, place), ...rest.map((node) => message(node, words)));
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

/** @param {NodeRow} node @param {MarkdownWords} words @param {string} [place] where it hangs, if not under the one before it */
function message(node, words, place = '') {
  const { role, id, createdAt = 0, text = '', attachments = [] } = node;
  const who = role === 'user' ? words.you : role === 'system' ? words.system : words.assistant;
  const model = typeof (/** @type {any} */ (node).model) === 'string' ? ` (${line(/** @type {any} */ (node).model)})` : '';
  const attached = attachments.map((one) => (one.kind === 'text' ? file(one) : `*${words.picture}: ${line(one.name)}* <!-- hybr picture -->`));
  return [`## ${who}${model} <!-- hybr ${role} ${id} ${createdAt}${place} -->`, ...attached, text.replace(OURS, '\\$1')].join('\n\n');
}

/** @param {{name: string, mime: string, data: string}} attachment */
const file = ({ name, mime, data }) => `**${line(name)}** <!-- hybr file ${mime} -->\n\n${fenced(data)}`;

/** @param {string} text @param {string} [language] @returns {string} as a code block that the text cannot end */
export function fenced(text, language = '') {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

/** @param {string} text @returns {string} on one line */
const line = (text) => text.replace(/\s+/g, ' ').trim();
