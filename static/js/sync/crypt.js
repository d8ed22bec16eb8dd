/**
 * Encryption of the sync, all of it in the page. The server keeps, and sees, only bytes.
 *
 *     passphrase --PBKDF2-SHA-256, ITERATIONS, random salt--> key that wraps the master key (AES-256-GCM)
 *     master key (256 random bits) --HKDF-SHA-256--> key of the contents (AES-256-GCM), key of the names (HMAC-SHA-256)
 *
 * A blob is gzip'ed JSON under a random nonce of 96 bits, bound to its name and format (the additional data), so that the server cannot
 * give one blob for another. Names are HMACs of the ids. The kept keys cannot be extracted. The header (salt, wrapped key) is no secret;
 * fewer iterations than ours are refused, so that nobody can weaken it. Figures: OWASP's for PBKDF2-HMAC-SHA256; NIST SP 800-38D.
 */

import { base64 } from '../exchange/base64.js';
import { SyncError } from './errors.js';

export const ITERATIONS = 600_000;
const MOST_ITERATIONS = 10_000_000; // a header must not hold up the page for ever
const FORMAT = 1;
const NONCE = 12;

/** @typedef {{content: CryptoKey, names: CryptoKey}} Keys */
/** @typedef {{v: number, kdf: string, iterations: number, salt: string, nonce: string, key: string}} Header */

const bytesOf = (/** @type {string} */ text) => new TextEncoder().encode(text);
const random = (/** @type {number} */ count) => crypto.getRandomValues(new Uint8Array(count));
const unbase64 = (/** @type {string} */ text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

/** @param {string} passphrase @param {number} [iterations] @returns {Promise<{header: Header, keys: Keys}>} for a new sync */
export async function create(passphrase, iterations = ITERATIONS) {
  const [salt, nonce, master] = [random(16), random(NONCE), random(32)];
  const named = { v: FORMAT, kdf: 'PBKDF2-SHA-256', iterations, salt: base64(salt) };
  const wrapping = await derived(passphrase, salt, iterations);
  const wrapped = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce, additionalData: bound(named) }, wrapping, master);
  return { header: { ...named, nonce: base64(nonce), key: base64(new Uint8Array(wrapped)) }, keys: await keysOf(master) };
}

/** @param {string} passphrase @param {unknown} header @returns {Promise<Keys>} rejects with wrong_passphrase, or damaged and newer for the header */
export async function unlock(passphrase, header) {
  const { v, kdf, iterations, salt, nonce, key } = checked(header);
  const wrapping = await derived(passphrase, unbase64(salt), iterations);
  const additionalData = bound({ v, kdf, iterations, salt });
  try {
    return await keysOf(new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv: unbase64(nonce), additionalData }, wrapping, unbase64(key))));
  } catch {
    throw new SyncError('wrong_passphrase');
  }
}

/** @param {any} header @returns {Header} */
function checked(header) {
  if (header?.v > FORMAT) throw new SyncError('newer');
  const texts = ['salt', 'nonce', 'key'].every((name) => /^[A-Za-z0-9+/]+=*$/.test(header?.[name]));
  const strong = header?.iterations >= ITERATIONS && header.iterations <= MOST_ITERATIONS;
  if (!texts || !strong || header.kdf !== 'PBKDF2-SHA-256') throw new SyncError('damaged');
  return header;
}

/** @param {{v: number, kdf: string, iterations: number, salt: string}} named */
const bound = ({ v, kdf, iterations, salt }) => bytesOf(`hybr-sync header ${v} ${kdf} ${iterations} ${salt}`);

/** @param {string} passphrase @param {Uint8Array<ArrayBuffer>} salt @param {number} iterations */
async function derived(passphrase, salt, iterations) {
  const secret = await crypto.subtle.importKey('raw', bytesOf(passphrase.normalize('NFKC')), 'PBKDF2', false, ['deriveKey']);
  return crypto.subtle.deriveKey({ name: 'PBKDF2', hash: 'SHA-256', salt, iterations }, secret, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

/** @param {Uint8Array<ArrayBuffer>} master @returns {Promise<Keys>} */
async function keysOf(master) {
  const secret = await crypto.subtle.importKey('raw', master, 'HKDF', false, ['deriveKey']);
  const from = (/** @type {string} */ info) => ({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: bytesOf(info) });
  const content = await crypto.subtle.deriveKey(from('hybr-sync content 1'), secret, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  const names = await crypto.subtle.deriveKey(from('hybr-sync names 1'), secret, { name: 'HMAC', hash: 'SHA-256', length: 256 }, false, ['sign']);
  return { content, names };
}

/** @param {Keys} keys @param {string} id of a conversation @returns {Promise<string>} its blob's name */
export async function nameOf({ names }, id) {
  const sum = new Uint8Array(await crypto.subtle.sign('HMAC', names, bytesOf(id)));
  return `c-${[...sum.subarray(0, 20)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** @param {Keys} keys @param {string} name of the blob @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<Uint8Array<ArrayBuffer>>} format, nonce, the encrypted */
export async function sealed({ content }, name, bytes) {
  const iv = random(NONCE);
  const hidden = new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: additional(name) }, content, bytes));
  const blob = new Uint8Array(1 + NONCE + hidden.length);
  blob.set([FORMAT]);
  blob.set(iv, 1);
  blob.set(hidden, 1 + NONCE);
  return blob;
}

/** @param {Keys} keys @param {string} name @param {Uint8Array<ArrayBuffer>} blob @returns {Promise<Uint8Array<ArrayBuffer>>} rejects with damaged, or newer */
export async function opened({ content }, name, blob) {
  if ((blob[0] ?? 0) > FORMAT) throw new SyncError('newer');
  const iv = blob.subarray(1, 1 + NONCE);
  try {
    return new Uint8Array(await crypto.subtle.decrypt({ name: 'AES-GCM', iv, additionalData: additional(name) }, content, blob.subarray(1 + NONCE)));
  } catch {
    throw new SyncError('damaged');
  }
}

const additional = (/** @type {string} */ name) => bytesOf(`hybr-sync ${FORMAT} ${name}`);

/** @param {unknown} value @returns {Promise<Uint8Array<ArrayBuffer>>} gzip'ed JSON */
export const pressed = (value) => through(bytesOf(JSON.stringify(value)), new CompressionStream('gzip'));

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<any>} */
export async function unpressed(bytes) {
  return JSON.parse(new TextDecoder().decode(await through(bytes, new DecompressionStream('gzip'))));
}

/** @param {Uint8Array<ArrayBuffer>} bytes @param {CompressionStream|DecompressionStream} stream */
async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}
