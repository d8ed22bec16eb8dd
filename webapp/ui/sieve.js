/** Which models a person wants to see: words, family, quantisation, size, memory, window, what fits, what is here. No page in it. */

/**
 * @typedef {object} Entry see models.model
 * @property {string} id @property {string} name @property {'server'|'own'|'web'} source @property {string} family @property {string} quantisation
 * @property {number} bytes @property {boolean} estimated whether `bytes` is @property {number} vramBytes
 * @property {number} context @property {string} licence @property {string} origin @property {string[]} hosts @property {boolean} testOnly
 * @property {string} state 'built', 'building', 'missing' or 'failed'
 * @property {{fraction: number|null, step: string, text: string, etaS: number|null}} build
 * @property {string|null} error @property {boolean} fits @property {string} reason @property {{code: string, args: Record<string, any>}} lacks @property {boolean} cached
 * @property {{have: number, bytes: number}|null} begun a download that is not whole
 */

/** `size`, `vram` in bytes at most, `context` in tokens at least; 0 and '' mean any. */
/** @typedef {{text: string, family: string, quantisation: string, size: number, vram: number, context: number, fits: boolean, cached: boolean}} Wanted */

/** @returns {Wanted} everything */
export const all = () => ({ text: '', family: '', quantisation: '', size: 0, vram: 0, context: 0, fits: false, cached: false });

/** @param {Wanted} wanted @returns {number} how many filters are set, the words not among them */
export const count = ({ text: _, ...filters }) => Object.values(filters).filter(Boolean).length;

/** @param {Entry} entry @returns {string} what words are looked for in */
const prose = ({ id, name, family, quantisation, licence }) => `${id} ${name} ${family} ${quantisation} ${licence}`.toLowerCase();

/**
 * What is not stated (a size, a need of memory) speaks against a model: who asks for at most 1 GB does not want a surprise.
 * @param {Entry[]} entries @param {Wanted} wanted @returns {Entry[]}
 */
export function sieve(entries, { text, family, quantisation, size, vram, context, fits, cached }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const most = (/** @type {number} */ value, /** @type {number} */ limit) => !limit || (value > 0 && value <= limit);
  return entries.filter(
    (entry) =>
      (!family || entry.family === family) && (!quantisation || entry.quantisation === quantisation) &&
      most(entry.bytes, size) && most(entry.vramBytes, vram) && entry.context >= context &&
      (!fits || entry.fits) && (!cached || entry.cached) && words.every((word) => prose(entry).includes(word)),
  );
}

/** @param {Entry[]} entries @param {'family'|'quantisation'} what @returns {string[]} which there are, in order */
export const kinds = (entries, what) => [...new Set(entries.map((entry) => entry[what]).filter(Boolean))].sort((a, b) => a.localeCompare(b));
