/**
 * Two devices' states of one conversation made one, against the state that both had last (`base`): what only one of them has changed is
 * taken from that one, messages are a union, and a message is gone only where one device removed it and the other left it as it was.
 * Where both changed the same, the choice depends on the two values alone, so that every device makes the same one.
 */

import { hashed, newest } from '../exchange/rows.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */

/** @typedef {{conversation: Row, nodes: NodeRow[]}} Packed */
/** @typedef {{row: Record<string, any>, prints: Record<string, string>}} Base the row, and each message's print */
/** @typedef {{one: Packed, write: {nodes: NodeRow[], drop: string[], row: boolean}, push: boolean}} Merged `write`: what is new here, `push`: whether the server lacks something */

/** @param {any} value @returns {string} JSON with sorted names */
export function canonical(value) {
  return JSON.stringify(value, (_, item) =>
    typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1))) : item,
  );
}

/** @param {NodeRow} node */
const print = (node) => hashed(canonical(node));

/** @param {Packed} one @returns {Base} */
export const baseOf = ({ conversation, nodes }) => ({ row: conversation, prints: Object.fromEntries(nodes.map((node) => [node.id, print(node)])) });

/** @param {Base} a @param {Base} b */
export const same = (a, b) => canonical(a) === canonical(b);

/**
 * @param {Base|null} base
 * @param {Packed} mine
 * @param {Packed} theirs
 * @returns {Merged}
 */
export function merge(base, mine, theirs) {
  const [here, there] = [byId(mine), byId(theirs)];
  /** @type {Map<string, NodeRow>} */
  const kept = new Map();
  for (const id of new Set([...here.keys(), ...there.keys()])) {
    const chosen = choose(base?.prints[id], here.get(id), there.get(id));
    if (chosen) kept.set(id, chosen);
  }
  const nodes = [...kept.values()].map((node) => under(node, kept, here, there));
  const conversation = mergedRow(base?.row ?? null, mine.conversation, theirs.conversation);
  if (conversation.leaf !== null && !kept.has(conversation.leaf)) conversation.leaf = newest(nodes);
  const one = { conversation, nodes };
  return {
    one,
    write: {
      nodes: nodes.filter((node) => !here.has(node.id) || print(/** @type {NodeRow} */ (here.get(node.id))) !== print(node)),
      drop: [...here.keys()].filter((id) => !kept.has(id)),
      row: canonical(conversation) !== canonical(mine.conversation),
    },
    push: !same(baseOf(one), baseOf(theirs)),
  };
}

/** @param {Packed} one */
const byId = ({ nodes }) => new Map(nodes.map((node) => [node.id, node]));

/** @param {string|undefined} before the print that both had @param {NodeRow|undefined} mine @param {NodeRow|undefined} theirs */
function choose(before, mine, theirs) {
  if (!mine || !theirs) {
    const only = /** @type {NodeRow} */ (mine ?? theirs);
    return before !== undefined && print(only) === before ? null : only;
  }
  if (print(mine) === before) return theirs;
  if (print(theirs) === before) return mine;
  return rank(mine) >= rank(theirs) ? mine : theirs;
}

/** @param {NodeRow} node @returns {string} compares: the whole answer before the stopped one, the longer before the shorter */
function rank(node) {
  const state = { done: 3, stopped: 2, error: 1 }[node.state ?? ''] ?? 0;
  return `${state}${String(node.text?.length ?? 0).padStart(12, '0')}${canonical(node)}`;
}

/** A message whose parent is gone hangs from the nearest above it that is there. @param {NodeRow} node @param {Map<string, NodeRow>} kept @param {Map<string, NodeRow>} here @param {Map<string, NodeRow>} there */
function under(node, kept, here, there) {
  let parent = node.parent;
  for (const seen = new Set([node.id]); parent !== null && !kept.has(parent) && !seen.has(parent); ) {
    seen.add(parent);
    parent = (here.get(parent) ?? there.get(parent))?.parent ?? null;
  }
  if (parent !== null && !kept.has(parent)) parent = null;
  return parent === node.parent ? node : { ...node, parent };
}

/** @param {Record<string, any>|null} base @param {Row} mine @param {Row} theirs @returns {Row} */
function mergedRow(base, mine, theirs) {
  const [newer, older] = mine.updatedAt > theirs.updatedAt || (mine.updatedAt === theirs.updatedAt && canonical(mine) >= canonical(theirs)) ? [mine, theirs] : [theirs, mine];
  /** @type {Record<string, any>} */
  const row = {};
  for (const name of new Set([...Object.keys(mine), ...Object.keys(theirs)])) {
    const [last, first] = [newer, older].map((one) => /** @type {any} */ (one)[name]);
    const before = base?.[name];
    row[name] = base && canonical([last]) === canonical([before]) ? first : last;
  }
  row.updatedAt = newer.updatedAt;
  row.createdAt = Math.min(mine.createdAt, theirs.createdAt);
  return /** @type {Row} */ (row);
}
