/** What can go wrong on the shelf; the sentences are the catalogue's. */

import { catalogue } from '../strings.js';

/**
 * @typedef {'storage_full'|'storage_denied'|'storage_failed'|'newer_schema'|'not_found'} ShelfCode
 * full: no room, what could not be stored lives in this page until it is closed; denied: no database in this browser, all lives in this
 * page; failed: the database could not do it this time; newer_schema: a later version of this page has written it, and this one must not
 */

export class ShelfError extends Error {
  /** @param {ShelfCode} code @param {boolean} [whole] it is so for the whole shelf, as long as this page lives */
  constructor(code, whole = false) {
    super(catalogue.shelf[code]);
    this.name = 'ShelfError';
    this.code = code;
    this.whole = whole;
  }
}
