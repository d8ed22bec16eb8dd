/** What can go wrong with the sync; the sentences are the catalogue's (`sync.errors`). */

/**
 * @typedef {'wrong_passphrase'|'offline'|'refused'|'full'|'conflict'|'missing'|'damaged'|'newer'|'server'|'closed'|'storage'} SyncCode
 * closed: nothing may leave this browser now; missing: there is no such blob; storage: this browser keeps no conversations
 */

export class SyncError extends Error {
  /** @param {SyncCode} code @param {string} [detail] */
  constructor(code, detail = '') {
    super(detail ? `${code}: ${detail}` : code);
    this.name = 'SyncError';
    this.code = code;
  }
}

/** @param {unknown} error @returns {SyncCode|null} */
export const codeOf = (error) => (error instanceof SyncError ? error.code : null);
