/**
 * Our own file: everything there is of each conversation, with all its branches and attachments.
 *
 *     {"format": "hybr", "version": 1, "exportedAt": "...", "conversations": [{"conversation": {...row}, "nodes": [...]}, ...]}
 *
 * Rows are the shelf's own (shelf/change.js, webapp/state/schema.py). A file of a later version is refused as a whole.
 */

import { plain } from './rows.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */

export const FORMAT = 'hybr';
export const VERSION = 1;

/** @param {Date} now @returns {string} the file up to its first conversation */
export const head = (now) => `{"format":"${FORMAT}","version":${VERSION},"exportedAt":"${now.toISOString()}","conversations":[\n`;

export const tail = '\n]}\n';

/** @param {{conversation: Row, nodes: NodeRow[]}} one @returns {string} its place in the file */
export const line = (one) => JSON.stringify({ conversation: one.conversation, nodes: one.nodes });

/** @param {unknown} header of a file @returns {boolean} whether only a later page can read it */
export const isNewer = (header) => plain(header) && header.format === FORMAT && !(header.version <= VERSION);

/** @param {Record<string, any>} element */
export const isOwn = (element) => plain(element.conversation) && 'nodes' in element;
