/** Conversations as a file for the person: lossless JSON (exchange/own.js), or Markdown. Made and kept in the browser. */

import { markdown } from '../exchange/markdown.js';
import { head, line, tail } from '../exchange/own.js';
import { element } from '../dom.js';
import { catalogue } from '../strings.js';
import { isNewer } from './groups.js';

/** @import {NodeRow, Row} from '../shelf/change.js' */
/** @import {Shelf} from '../shelf.js' */

/** @typedef {'json'|'markdown'|'branches'} Format */
/** @typedef {{conversation: Row, nodes: NodeRow[]}} Packed */

const words = catalogue.history.markdown;
const LUMP = 500; // conversations put together at a time, so that the text need not fit in memory

/**
 * @param {AsyncIterable<Packed>|Packed[]} conversations
 * @param {Format} format
 * @returns {Promise<Blob>}
 */
export async function file(conversations, format) {
  const json = format === 'json';
  let blob = new Blob(json ? [head(new Date())] : []);
  /** @type {string[]} */
  let texts = [];
  let count = 0;
  for await (const one of conversations) {
    const between = count ? (json ? ',\n' : '\n\n') : '';
    texts.push(between + (json ? line(one) : markdown(one, { branches: format === 'branches', words })));
    count += 1;
    if (texts.length < LUMP) continue;
    blob = new Blob([blob, ...texts]);
    texts = [];
  }
  return new Blob([blob, ...texts, json ? tail : ''], { type: json ? 'application/json' : 'text/markdown' });
}

/** @param {Shelf} shelf @param {Format} format @returns {Promise<number>} how many only a later page can read, which are not in it */
export async function exportAll(shelf, format) {
  save(await file(shelf.scan(), format), `hybr-${today()}`, format);
  return (await shelf.list()).filter(isNewer).length;
}

/** @param {Shelf} shelf @param {string} id @param {Format} format */
export async function exportOne(shelf, id, format) {
  const one = await shelf.read(id);
  save(await file([one], format), fileName(one.conversation.title) || `hybr-${today()}`, format);
}

const today = () => new Date().toISOString().slice(0, 10);

/** @param {string} title @returns {string} without what file systems refuse */
export const fileName = (title) => title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, ' ').replace(/\s+/g, ' ').replace(/^[ .]+|[ .]+$/g, '').slice(0, 80).trim();

/** @param {Blob} blob @param {string} name @param {Format} format */
function save(blob, name, format) {
  const link = element('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${name}.${format === 'json' ? 'json' : 'md'}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
