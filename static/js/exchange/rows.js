/**
 * What comes from a file, made into rows that can be stored: every value has the type that the page relies on, ids are unique, each
 * message has a parent that is there or none, and nothing goes in circles. What was wrong is told in `notes`; what is right stays as it
 * is, down to fields that only a later page knows.
 */

import { VERSION } from '../shelf/change.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */

/**
 * @typedef {{conversation: Row, nodes: NodeRow[]}} Packed
 * @typedef {{say: string, title?: string, count?: number, at?: number, name?: string}} Note `say` is a key of the catalogue's `exchange.notes`
 */

const ROLES = new Set(['user', 'assistant', 'system']);
const STATES = new Set(['done', 'stopped', 'error']);
const POLICIES = new Set(['allow', 'redact', 'ask', 'never']);
const ID = /^[\w-]{1,100}$/;
const MIME = /^[\w.+-]{1,60}\/[\w.+-]{1,100}$/;
const IMAGE = /^(data:image\/(png|jpeg|gif|webp|avif|bmp);base64,)?[A-Za-z0-9+/]*={0,2}$/;
const LATEST = 8.64e15;

/** Longest title and folder name, in UTF-16 units. */
const LONG = 300;

/**
 * @param {unknown} row
 * @param {unknown} nodes
 * @param {Note[]} notes added to
 * @returns {Packed|null} null for what is no conversation
 */
export function packed(row, nodes, notes) {
  if (!plain(row) || !Array.isArray(nodes)) return null;
  const conversation = cleanRow(row);
  const told = new Tally();
  const cleaned = rooted(unique(nodes.map((node) => cleanNode(node, conversation, told)).filter((node) => node !== null), told), told);
  if (conversation.leaf !== null && !cleaned.some(({ id }) => id === conversation.leaf)) conversation.leaf = newest(cleaned);
  notes.push(...told.notes(conversation.title));
  return { conversation, nodes: cleaned };
}

/** Counts what was mended, so that a thousand messages make one line. */
class Tally {
  /** @type {Map<string, number>} */ #counts = new Map();

  /** @param {string} say */
  add(say) {
    this.#counts.set(say, (this.#counts.get(say) ?? 0) + 1);
  }

  /** @param {string} title @returns {Note[]} */
  notes(title) {
    return [...this.#counts].map(([say, count]) => ({ say, title, count }));
  }
}

/** @param {Record<string, any>} row @returns {Row} */
function cleanRow(row) {
  const createdAt = time(row.createdAt) ?? Date.now();
  return {
    ...row,
    id: idFrom(row.id),
    v: VERSION,
    title: short(row.title) ?? '',
    titled: row.titled === true,
    createdAt,
    updatedAt: time(row.updatedAt) ?? createdAt,
    pinned: row.pinned === true,
    folder: short(row.folder)?.trim() || null,
    leaf: typeof row.leaf === 'string' ? idFrom(row.leaf) : null,
    egress: POLICIES.has(row.egress) ? row.egress : null,
    persona: short(row.persona),
    settings: plain(row.settings) ? row.settings : {},
    deletedAt: null,
  };
}

/**
 * @param {any} node
 * @param {Row} row
 * @param {Tally} told
 * @returns {NodeRow|null}
 */
function cleanNode(node, row, told) {
  if (!plain(node)) return told.add('notAMessage'), null;
  if (typeof node.text !== 'string' || !ROLES.has(node.role)) told.add('wrongType');
  return {
    ...node,
    conversation: row.id,
    id: idFrom(node.id),
    v: VERSION,
    parent: node.parent === null || node.parent === undefined ? null : idFrom(node.parent),
    role: ROLES.has(node.role) ? node.role : 'assistant',
    text: typeof node.text === 'string' ? node.text : '',
    state: STATES.has(node.state) ? node.state : node.state === undefined ? 'done' : 'stopped',
    createdAt: time(node.createdAt) ?? row.createdAt,
    ...checked(node, 'provider', (value) => value === null || value === 'local' || value === 'cloud', null),
    ...checked(node, 'model', (value) => value === null || typeof value === 'string', null),
    ...checked(node, 'stats', (value) => value === null || plain(value), null),
    ...checked(node, 'error', (value) => value === null || plain(value), null),
    ...checked(node, 'segments', isSegments, []),
    ...checked(node, 'parts', (value) => value === null || Array.isArray(value), null),
    ...('attachments' in node ? { attachments: attachments(node.attachments, told) } : {}),
  };
}

/** @param {Record<string, any>} node @param {string} name @param {(value: any) => boolean} right @param {unknown} instead */
const checked = (node, name, right, instead) => (name in node && !right(node[name]) ? { [name]: instead } : {});

/** @param {any} value */
const isSegments = (value) =>
  Array.isArray(value) && value.every((one) => plain(one) && ['local', 'cloud'].includes(one.provider) && Number.isInteger(one.atChars));

/**
 * Pictures come as data: an address of any other kind would be a request to whoever wrote the file.
 * @param {unknown} list
 * @param {Tally} told
 * @returns {any[]}
 */
export function attachments(list, told) {
  if (!Array.isArray(list)) return [];
  return list.flatMap((one) => {
    const right = plain(one) && typeof one.data === 'string' && (one.kind === 'text' || (one.kind === 'image' && IMAGE.test(one.data)));
    if (!right) return told.add('attachmentLost'), [];
    return [{ ...one, name: short(one.name) ?? '', mime: MIME.test(one.mime) ? one.mime : one.kind === 'text' ? 'text/plain' : mimeOf(one.data) }];
  });
}

const mimeOf = (/** @type {string} */ data) => (data.startsWith('data:') ? data.slice(5, data.indexOf(';')) : 'image/png');

/** A message that comes twice is one; another under the same id gets one of its own. @param {NodeRow[]} nodes @param {Tally} told */
function unique(nodes, told) {
  /** @type {Map<string, NodeRow>} */
  const known = new Map();
  for (const node of nodes) {
    const twin = known.get(node.id);
    if (!twin) known.set(node.id, node);
    else if (JSON.stringify(twin) !== JSON.stringify(node)) {
      told.add('sameId');
      const id = hashed(JSON.stringify(node));
      known.set(id, { ...node, id });
    }
  }
  return [...known.values()];
}

/** @param {NodeRow[]} nodes @param {Tally} told @returns {NodeRow[]} where every chain of parents ends at a root */
function rooted(nodes, told) {
  const all = new Map(nodes.map((node) => [node.id, node]));
  for (const node of nodes) {
    if (node.parent === null || all.has(node.parent)) continue;
    told.add('noParent');
    node.parent = null;
  }
  const safe = new Set();
  for (const node of nodes) {
    /** @type {NodeRow[]} */
    const path = [];
    const on = new Set();
    for (let at = /** @type {NodeRow|undefined} */ (node); at && !safe.has(at.id); at = at.parent === null ? undefined : all.get(at.parent)) {
      if (on.has(at.id)) {
        told.add('circle');
        at.parent = null;
        break;
      }
      on.add(at.id);
      path.push(at);
    }
    for (const { id } of path) safe.add(id);
  }
  return nodes;
}

/** @param {NodeRow[]} nodes @returns {string|null} the newest message's id, for a branch to show */
export const newest = (nodes) => nodes.reduce((/** @type {NodeRow|null} */ best, one) => (best && (best.createdAt ?? 0) > (one.createdAt ?? 0) ? best : one), null)?.id ?? null;

/** Whether two messages say the same. @param {NodeRow} a @param {NodeRow} b */
export const alike = (a, b) => a.role === b.role && a.text === b.text;

/** @param {unknown} value an id of ours or another's @returns {string} the same, or where it is none that can be used, one made of it: the same each time */
export const idFrom = (value) => (typeof value === 'string' && ID.test(value) ? value : hashed(JSON.stringify(value) ?? ''));

/**
 * An id made of a text, as long as a UUID. Not secret and not safe against a forger: whoever writes a file may name its ids anyway.
 * Four 32-bit FNV-1a sums with different seeds (Fowler, Noll, Vo).
 * @param {string} text
 */
export function hashed(text) {
  const sums = [0x811c9dc5, 0x9e3779b9, 0x85ebca6b, 0xc2b2ae35];
  for (let i = 0; i < text.length; i += 1) {
    for (let k = 0; k < 4; k += 1) sums[k] = Math.imul((sums[k] ?? 0) ^ text.charCodeAt(i), 0x01000193 + 2 * k);
  }
  const hex = sums.map((sum) => (sum >>> 0).toString(16).padStart(8, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** @param {any} value @returns {value is Record<string, any>} */
export const plain = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** @param {unknown} value ms @returns {number|null} */
export const time = (value) => (typeof value === 'number' && value >= 0 && value <= LATEST ? value : null);

/** @param {unknown} value @returns {string|null} */
const short = (value) => (typeof value === 'string' ? value.slice(0, LONG) : null);

export { Tally };
