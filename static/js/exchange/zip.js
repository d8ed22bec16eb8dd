/**
 * Reads a ZIP archive where it lies: the list at its end, then only the members that are asked for, inflated by the browser as a stream
 * (APPNOTE 6.3.10: end record 4.3.16, ZIP64 4.3.14-15, list 4.3.12, member 4.3.7). Stored and deflated members, nothing encrypted.
 * A member never gives more than it is allowed to: an archive can promise one size and inflate to another.
 */

/** @typedef {{name: string, method: number, packed: number, size: number, at: number, secret: boolean}} Member */

const [END, END64, LOCATOR, LISTED, LOCAL] = [0x06054b50, 0x06064b50, 0x07064b50, 0x02014b50, 0x04034b50];
const FULL = 0xffffffff;
const MOST_LISTED = 64 * 1024 * 1024;

export class ZipError extends Error {}

/** @param {Blob} blob @param {number} from @param {number} to @returns {Promise<DataView>} */
const view = async (blob, from, to) => new DataView(await blob.slice(Math.max(0, from), to).arrayBuffer());

/** @param {Blob} blob @returns {Promise<boolean>} */
export async function isZip(blob) {
  const first = await view(blob, 0, 4);
  return first.byteLength === 4 && [LOCAL, END].includes(first.getUint32(0, true));
}

/** @param {Blob} blob @returns {Promise<Member[]>} throws ZipError for what cannot be read */
export async function members(blob) {
  const { at, size, count } = await directory(blob);
  if (size > MOST_LISTED || at + size > blob.size) throw new ZipError('list');
  const list = await view(blob, at, at + size);
  const found = [];
  for (let from = 0; found.length < count && from + 46 <= list.byteLength; ) {
    if (list.getUint32(from, true) !== LISTED) throw new ZipError('list');
    const [name, extra, comment] = [28, 30, 32].map((offset) => list.getUint16(from + offset, true));
    found.push(member(list, from, name ?? 0, extra ?? 0));
    from += 46 + (name ?? 0) + (extra ?? 0) + (comment ?? 0);
  }
  return found;
}

/** @param {Blob} blob */
async function directory(blob) {
  const from = Math.max(0, blob.size - 65557); // the record's 22 bytes and the longest comment
  const end = await view(blob, from, blob.size);
  let i = end.byteLength - 22;
  while (i >= 0 && end.getUint32(i, true) !== END) i -= 1;
  if (i < 0) throw new ZipError('end');
  const found = { count: end.getUint16(i + 10, true), size: end.getUint32(i + 12, true), at: end.getUint32(i + 16, true) };
  if (found.at !== FULL && found.size !== FULL && found.count !== 0xffff) return found;
  if (i < 20 || end.getUint32(i - 20, true) !== LOCATOR) return found;
  const record = await view(blob, Number(end.getBigUint64(i - 12, true)), Number(end.getBigUint64(i - 12, true)) + 56);
  if (record.byteLength < 56 || record.getUint32(0, true) !== END64) throw new ZipError('end');
  const [count, size, at] = [32, 40, 48].map((offset) => Number(record.getBigUint64(offset, true)));
  return { count: count ?? 0, size: size ?? 0, at: at ?? 0 };
}

/**
 * @param {DataView} list
 * @param {number} from
 * @param {number} named bytes of the name
 * @param {number} extra bytes of the extra fields
 * @returns {Member}
 */
function member(list, from, named, extra) {
  const name = new TextDecoder().decode(new Uint8Array(list.buffer, from + 46, named));
  const found = {
    name,
    secret: (list.getUint16(from + 8, true) & 1) === 1,
    method: list.getUint16(from + 10, true),
    packed: list.getUint32(from + 20, true),
    size: list.getUint32(from + 24, true),
    at: list.getUint32(from + 42, true),
  };
  const large = /** @type {const} */ (['size', 'packed', 'at']).filter((field) => found[field] === FULL);
  for (let i = from + 46 + named; large.length && i + 4 <= from + 46 + named + extra; i += 4 + list.getUint16(i + 2, true)) {
    if (list.getUint16(i, true) !== 1) continue;
    for (const [k, field] of large.entries()) found[field] = Number(list.getBigUint64(i + 4 + 8 * k, true));
    break;
  }
  return found;
}

/**
 * @param {Blob} blob
 * @param {Member} one
 * @param {number} most bytes
 * @returns {Promise<ReadableStream<Uint8Array>>} throws ZipError; the stream fails with one where there is more than `most`
 */
export async function inflated(blob, one, most) {
  if (one.secret || ![0, 8].includes(one.method)) throw new ZipError('method');
  const local = await view(blob, one.at, one.at + 30);
  if (local.byteLength < 30 || local.getUint32(0, true) !== LOCAL) throw new ZipError('member');
  const from = one.at + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const raw = blob.slice(from, from + one.packed).stream();
  const whole = one.method === 0 ? raw : raw.pipeThrough(/** @type {any} */ (new DecompressionStream('deflate-raw')));
  let given = 0;
  return whole.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        given += chunk.byteLength;
        if (given > most) controller.error(new ZipError('size'));
        else controller.enqueue(chunk);
      },
    }),
  );
}
