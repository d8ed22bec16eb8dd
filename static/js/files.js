/**
 * Files that a person attaches. Text is read as UTF-8 or UTF-16, or else as Windows' Western letters, which is said; within a limit that a
 * model's window can hold. Pictures are drawn anew, no larger
 * than models look at them, which also leaves behind what a camera writes beside the picture (where it was taken, for one).
 */

import { bytes } from './figures.js';
import { catalogue } from './strings.js';

/** @import {Attachment} from './protocol.js' */

/** How many files go with a message, bytes of a text file and of a picture as it is chosen, and pixels of a picture's longer side. */
export const LIMITS = Object.freeze({ files: 8, text: 256_000, image: 25_000_000, side: 1536 });
const QUALITY = 0.85;
/** A drawing keeps its sharp edges as PNG up to here; a photograph is smaller as JPEG. */
const PNG_MOST = 1_000_000;

/** Why a file is not attached, in words for the person. */
export class FileError extends Error {}

/** What is in no text: most control characters, and letters that Windows-1252 has not. */
const BINARY = /[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f\x81\x8d\x8f\x90\x9d]/;

/**
 * @param {File} file
 * @returns {Promise<{file: Attachment, note: string}>} and what the person should know of it
 * @throws {FileError}
 */
export async function read(file) {
  const words = catalogue.composer;
  const name = file.name || (file.type.startsWith('image/') ? 'image' : 'text');
  if (file.type.startsWith('image/') && file.type !== 'image/svg+xml') {
    if (file.size > LIMITS.image) throw new FileError(words.imageTooBig(name, bytes(LIMITS.image)));
    return { file: await picture(file, name), note: words.added(name) };
  }
  if (file.size > LIMITS.text) throw new FileError(words.tooBig(name, bytes(LIMITS.text)));
  const read = decoded(new Uint8Array(await bytesOf(file, name)));
  if (!read) throw new FileError(words.notRead(name));
  const note = read.guessed ? words.guessed(name) : words.added(name);
  return { file: { kind: 'text', name, mime: file.type || 'text/plain', data: read.text }, note };
}

/** @param {File} file @param {string} name @returns {Promise<ArrayBuffer>} */
function bytesOf(file, name) {
  return file.arrayBuffer().catch(() => { // a folder that was dropped, or a file that is gone
    throw new FileError(catalogue.composer.notRead(name));
  });
}

/** @param {Uint8Array} bytes @returns {{text: string, guessed: boolean}|null} null for what is no text */
function decoded(bytes) {
  const mark = `${bytes[0]} ${bytes[1]}`;
  const marked = { '255 254': 'utf-16le', '254 255': 'utf-16be' }[mark];
  for (const encoding of marked ? [marked] : ['utf-8', 'windows-1252']) {
    try {
      const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
      const guessed = encoding === 'windows-1252';
      return text.includes('\0') || (guessed && BINARY.test(text)) ? null : { text, guessed };
    } catch {
      // not in this encoding
    }
  }
  return null;
}

/** @param {File} file @param {string} name @returns {Promise<Attachment>} */
async function picture(file, name) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new FileError(catalogue.composer.notRead(name));
  });
  const scale = Math.min(1, LIMITS.side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = canvas.getContext('2d');
  if (!context) throw new FileError(catalogue.composer.notRead(name));
  const png = file.type === 'image/png' ? await drawn(canvas, context, bitmap, 'image/png') : null;
  const blob = png && png.size <= PNG_MOST ? png : await drawn(canvas, context, bitmap, 'image/jpeg');
  bitmap.close();
  return { kind: 'image', name, mime: blob.type, data: await dataUrl(blob) };
}

/**
 * @param {OffscreenCanvas} canvas
 * @param {OffscreenCanvasRenderingContext2D} context
 * @param {ImageBitmap} bitmap
 * @param {string} type
 */
function drawn(canvas, context, bitmap, type) {
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (type === 'image/jpeg') {
    context.fillStyle = '#fff'; // JPEG has no transparency, and black is not what a drawing was made on
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type, quality: QUALITY });
}

/** @param {Blob} blob @returns {Promise<string>} */
function dataUrl(blob) {
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
