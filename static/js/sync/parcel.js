/** A conversation as encrypted blobs: one, or, where it is too long for that, several that the first one names. */

import { nameOf, opened, pressed, sealed, unpressed } from './crypt.js';
import { SyncError } from './errors.js';
import { packed } from '../exchange/rows.js';

/** @import {Keys} from './crypt.js' */
/** @import {Packed} from './merge.js' */
/** @import {Remote} from './remote.js' */

const FORMAT = 1;
const AROUND = 64; // format, nonce and tag
const PART = /^p-[0-9a-f]{40}$/;

/**
 * @param {Remote} remote
 * @param {Keys} keys
 * @param {string} name
 * @param {Packed} one
 * @param {{most: number, over: number}} how bytes that a blob may have, and the version that is written over; 0: none
 * @returns {Promise<{version: number, parts: string[]}>} rejects with conflict, and has left nothing behind then
 */
export async function send(remote, keys, name, { conversation, nodes }, { most, over }) {
  const bytes = await pressed({ v: FORMAT, conversation, nodes });
  const room = most - AROUND;
  /** @type {string[]} */
  const parts = [];
  try {
    for (let from = 0; bytes.length > room && from < bytes.length; from += room) {
      const part = partName();
      await remote.put(part, await sealed(keys, part, bytes.slice(from, from + room)), 0);
      parts.push(part);
    }
    const first = parts.length ? await pressed({ v: FORMAT, parts }) : bytes;
    return { version: await remote.put(name, await sealed(keys, name, first), over), parts };
  } catch (error) {
    await drop(remote, parts);
    throw error;
  }
}

/**
 * @param {Remote} remote
 * @param {Keys} keys
 * @param {string} name
 * @returns {Promise<{one: Packed, version: number, parts: string[]}>} rejects with missing, damaged, or newer
 */
export async function receive(remote, keys, name) {
  const { version, bytes } = await remote.get(name);
  const first = await unpressed(await opened(keys, name, bytes));
  if (first?.v > FORMAT) throw new SyncError('newer');
  const parts = (Array.isArray(first?.parts) ? first.parts : []).filter((/** @type {unknown} */ part) => PART.test(String(part)));
  const content = parts.length ? await whole(remote, keys, parts) : first;
  const one = packed(content?.conversation, content?.nodes, []);
  if (!one || (await nameOf(keys, one.conversation.id)) !== name) throw new SyncError('damaged');
  return { one, version, parts };
}

/** @param {Remote} remote @param {Keys} keys @param {string[]} parts @returns {Promise<any>} */
async function whole(remote, keys, parts) {
  const pieces = [];
  for (const part of parts) pieces.push(await opened(keys, part, (await remote.get(part)).bytes));
  return unpressed(new Uint8Array(await new Blob(pieces).arrayBuffer()));
}

/** @param {Remote} remote @param {string[]} parts that nobody names any more */
export async function drop(remote, parts) {
  for (const part of parts) await remote.remove(part).catch(() => {}); // what stays costs room, not text
}

const partName = () => `p-${[...crypto.getRandomValues(new Uint8Array(20))].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
