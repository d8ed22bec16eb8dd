/** Errors across threads: plain objects on the wire, real `Error`s with `name`, `message` and `code` on either side. */

/** @import {WireError} from './protocol.js' */

/** @typedef {Error & {code: string|null, [more: string]: unknown}} CodedError */

const RESERVED = new Set(['name', 'message', 'code', 'stack', 'cause', '__proto__', 'constructor', 'toString']);

/**
 * @param {string} name
 * @param {string} message
 * @param {string|null} code
 * @param {Record<string, unknown>} [more]
 * @returns {CodedError}
 */
export function coded(name, message, code, more = {}) {
  const error = Object.assign(new Error(message), { code });
  // Not by assignment: a name on the instance must not be enumerable, as on any other Error.
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true });
  for (const [key, value] of Object.entries(more)) if (!RESERVED.has(key)) Object.assign(error, { [key]: value });
  return /** @type {CodedError} */ (error);
}

/**
 * @param {Partial<WireError>|null|undefined} wire
 * @returns {CodedError}
 */
export function fromWire(wire) {
  return coded(String(wire?.name ?? 'Error'), String(wire?.message ?? 'Unknown error'), wire?.code ?? null, { ...wire });
}

/**
 * @param {unknown} error anything that was thrown
 * @returns {WireError}
 */
export function toWire(error) {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), code: null };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : null;
  const status = 'status' in error && typeof error.status === 'number' ? { status: error.status } : {};
  return { name: error.name, message: error.message, code, ...status };
}

/** @param {Record<string, unknown>} [more] the text and usage so far */
export function aborted(more = {}) {
  return coded('Aborted', 'The request was stopped by its caller.', 'aborted', more);
}
