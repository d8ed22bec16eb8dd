/**
 * What a change of a conversation does to its rows: pure, so that the database and the memory (shelf.js) agree.
 *
 * Changes name what they change and are laid over what is there by then, because the tabs of a browser write the same conversation.
 * A message that is dropped leaves a gravestone with its parent's id and no text: what another tab has written under it meanwhile is
 * found again, under the nearest message above that still lives.
 */

/** The version of the rows that this page writes. A row of a later one is never written. */
export const VERSION = 1;

/**
 * @typedef {object} Row a conversation
 * @property {string} id
 * @property {number} v
 * @property {string} title
 * @property {boolean} titled named by the person
 * @property {number} createdAt ms
 * @property {number} updatedAt ms
 * @property {boolean} pinned
 * @property {string|null} folder
 * @property {string|null} leaf end of the branch shown
 * @property {string|null} egress
 * @property {string|null} persona
 * @property {Record<string, unknown>} settings
 * @property {number|null} deletedAt ms
 *
 * @typedef {object} NodeRow a message; the rest of it is webapp/state/schema.py's
 * @property {string} conversation
 * @property {string} id
 * @property {number} v
 * @property {string|null} parent
 * @property {string} [role]
 * @property {string} [text]
 * @property {string} [state]
 * @property {number} [createdAt]
 * @property {any[]} [attachments]
 * @property {boolean} [gone] a gravestone
 *
 * @typedef {{id: string} & Partial<NodeRow> & Record<string, unknown>} NodeChange without a `role` it only changes a message that is there
 * @typedef {object} Change
 * @property {{id: string} & Partial<Row> & Record<string, unknown>} [conversation]
 * @property {NodeChange[]} [nodes]
 * @property {string[]} [drop] ids of messages
 *
 * @typedef {{row: Row|null, nodes: Map<string, NodeRow>}} State
 */

/** @param {Change} change @returns {string} the conversation's id */
export function idOf(change) {
  const id = change.conversation?.id ?? change.nodes?.[0]?.conversation;
  if (typeof id !== 'string' || !id) throw new TypeError('shelf.write: the change names no conversation');
  return id;
}

/** @param {Change} change @returns {string[]} the messages that it touches */
export const touched = (change) => [...(change.nodes ?? []).map(({ id }) => id), ...(change.drop ?? [])];

/** @param {State} state @returns {boolean} whether anything in it is of a later version */
export const isNewer = ({ row, nodes }) => (row?.v ?? 0) > VERSION || [...nodes.values()].some(({ v }) => v > VERSION);

/**
 * @param {State} state with at least the messages that are touched
 * @param {Change} change
 * @returns {State} `row` whole, and of the messages those that are there afterwards, gravestones included
 */
export function applied({ row, nodes }, change) {
  const conversation = idOf(change);
  const after = new Map(nodes);
  for (const node of change.nodes ?? []) {
    const before = after.get(node.id);
    const there = before && !before.gone ? before : null;
    if (there || 'role' in node) after.set(node.id, { v: VERSION, parent: null, ...there, ...node, conversation });
  }
  for (const id of change.drop ?? []) {
    const before = after.get(id);
    if (before) after.set(id, { conversation, id, v: VERSION, parent: before.parent, gone: true });
  }
  return { row: { ...blank(conversation), ...row, ...change.conversation }, nodes: after };
}

/**
 * Two changes of one conversation as one.
 * @param {Change} first
 * @param {Change} second
 * @returns {Change}
 */
export function merged(first, second) {
  const nodes = new Map((first.nodes ?? []).map((node) => [node.id, node]));
  const drop = new Set(first.drop);
  for (const node of second.nodes ?? []) {
    if (drop.has(node.id) && !('role' in node)) continue;
    drop.delete(node.id);
    nodes.set(node.id, { ...nodes.get(node.id), ...node });
  }
  for (const id of second.drop ?? []) {
    nodes.delete(id);
    drop.add(id);
  }
  const conversation = { ...first.conversation, ...second.conversation, id: idOf(first) };
  return { conversation, nodes: [...nodes.values()], drop: [...drop] };
}

/** @param {Iterable<NodeRow>} rows @returns {NodeRow[]} the messages without the gravestones */
export function living(rows) {
  const all = new Map([...rows].map((node) => [node.id, node]));
  return [...all.values()].filter(({ gone }) => !gone).map((node) => {
    const parent = above(node.parent, all);
    return parent === node.parent ? node : { ...node, parent };
  });
}

/**
 * @param {string|null} id
 * @param {Map<string, NodeRow>} all
 * @returns {string|null} that message, or the nearest above it that lives
 */
function above(id, all) {
  const seen = new Set();
  for (let at = id; at !== null && !seen.has(at); at = all.get(at)?.parent ?? null) {
    if (!all.get(at)?.gone) return at;
    seen.add(at); // rows that are damaged may go in circles
  }
  return null;
}

/** @param {string} id @returns {Row} */
function blank(id) {
  const now = Date.now();
  return {
    id, v: VERSION, title: '', titled: false, createdAt: now, updatedAt: now, pinned: false, folder: null, leaf: null, egress: null, persona: null,
    settings: {}, deletedAt: null,
  };
}
