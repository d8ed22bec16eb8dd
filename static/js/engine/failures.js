/**
 * What can go wrong while downloading, each as the sentence a person reads: what, why, and what to do.
 */

/** @import {Item} from './store.js' */
import {EngineError} from './errors.js';
import {mb} from './progress.js';

/**
 * No room. Without `available` the browser did not say how much it would take.
 * @param {string} id @param {number} needed bytes @param {number|null} available bytes @param {Record<string, unknown>} [details]
 * @returns {EngineError}
 */
export function full(id, needed, available, details = {}) {
  const granted = available === null ? 'which the browser refused to store' : `the browser grants ${mb(available)}`;
  return new EngineError(
    'QuotaExceededError',
    `There is no room for ${id} in this browser: it needs ${mb(needed)} more, ${granted}. ` +
      'Delete another model, free disk space, or leave the private window; what is done is kept.',
    'download',
    {neededBytes: needed, availableBytes: available, ...details},
  );
}

/** @param {string} id @param {Item} item @param {number} left bytes still to store @param {unknown} cause @returns {EngineError} */
export const unstorable = (id, item, left, cause) =>
  new EngineError(
    'StorageError',
    `The browser could not store ${item.path} (${cause}): is the disk full? ${id} needs ${mb(left)} more. ` +
      'Free some and load again; what is done is kept.',
    'download',
    {file: item.path, neededBytes: left},
  );

/** @param {Item} item @param {string} what differs @param {Record<string, unknown>} [details] @returns {EngineError} */
export const wrong = (item, what, details = {}) =>
  new EngineError(
    'IntegrityError',
    `${item.path} is not the file the model list names: ${what}. Nothing of it was kept. ` +
      'Build the model again on the server (hybr models build) and reload this page.',
    'download',
    {file: item.path, url: item.url, ...details},
  );

/** @param {Item} item @param {number} status of the answer @returns {EngineError} */
export const missingFile = (item, status) =>
  new EngineError(
    'ModelFileMissingError',
    `The server has no ${item.path} (${status}): the model was rebuilt or removed. Reload the page for the new model list.`,
    'download',
    {file: item.path, url: item.url, status},
  );

/** @param {Item} item @param {unknown} cause of the last try @param {number} tries @returns {EngineError} */
export const unreachable = (item, cause, tries) =>
  new EngineError(
    'NetworkError',
    `${item.path} could not be downloaded in ${tries} tries (${cause instanceof Error ? cause.message : cause}). ` +
      'Check the connection and load again; what is done is kept.',
    'download',
    {file: item.path, url: item.url, tries},
  );
