/**
 * Puts an imported conversation on the shelf, beside what is there: nothing that exists is changed or lost. One that is there already
 * gets the messages that it lacks; one that says something else under the same ids comes as a copy, the same copy each time.
 */

import { alike, hashed } from './rows.js';

/** @import {NodeRow} from '../shelf/change.js' */
/** @import {Packed} from './rows.js' */
/** @import {Shelf} from '../shelf.js' */

/** @typedef {'added'|'grown'|'same'|'copied'|'restored'} Outcome */

/**
 * @param {Pick<Shelf, 'read'|'write'>} shelf
 * @param {Packed} one
 * @returns {Promise<{outcome: Outcome, id: string}>} rejects with the shelf's errors
 */
export async function shelve(shelf, one) {
  const { id } = one.conversation;
  const there = await shelf.read(id).catch((/** @type {{code?: string}} */ error) => {
    if (error.code === 'newer_schema') return 'newer';
    if (error.code === 'not_found') return null;
    throw error;
  });
  if (there === null) return await written(shelf, one, 'added');
  const known = new Map(there === 'newer' ? [] : there.nodes.map((node) => [node.id, node]));
  const clash = there === 'newer' || one.nodes.some((node) => known.has(node.id) && !alike(/** @type {NodeRow} */ (known.get(node.id)), node));
  if (clash) return await shelve(shelf, copy(one)).then(asCopy);
  const fresh = one.nodes.filter((node) => !known.has(node.id));
  const back = typeof there === 'object' && there.conversation.deletedAt !== null;
  if (!fresh.length && !back) return { outcome: 'same', id };
  await shelf.write({ conversation: { id, ...(back ? { deletedAt: null } : {}) }, nodes: /** @type {any} */ (fresh) });
  return { outcome: back ? 'restored' : 'grown', id };
}

/** @param {{outcome: Outcome, id: string}} done @returns {{outcome: Outcome, id: string}} */
const asCopy = ({ outcome, id }) => ({ outcome: outcome === 'added' ? 'copied' : outcome, id });

/** @param {Pick<Shelf, 'write'>} shelf @param {Packed} one @param {Outcome} outcome */
async function written(shelf, one, outcome) {
  await shelf.write({ conversation: one.conversation, nodes: /** @type {any} */ (one.nodes) });
  return { outcome, id: one.conversation.id };
}

/** @param {Packed} one @returns {Packed} under an id made of what it says */
function copy({ conversation, nodes }) {
  const id = hashed(JSON.stringify([conversation.id, nodes.map(({ id: node, role, text }) => [node, role, text])]));
  return { conversation: { ...conversation, id }, nodes: nodes.map((node) => ({ ...node, conversation: id })) };
}
