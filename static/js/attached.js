/** What goes along with a message, as it is shown: pictures as pictures, text files folded under their name and size. */

import { element, icon } from './dom.js';
import { bytes } from './figures.js';
import { catalogue } from './strings.js';

/** @import {Attachment} from './protocol.js' */

/** A picture's own data and nothing else: what came from an import may name any address. */
const PICTURE = /^data:image\/(?:png|jpeg|webp|gif|avif);base64,[A-Za-z0-9+/=]+$/;

/** @param {Attachment} file @returns {string} its size, for people */
export function size({ kind, data }) {
  const base64 = data.slice(data.indexOf(',') + 1);
  return bytes(kind === 'image' ? Math.floor((base64.length * 3) / 4) : new TextEncoder().encode(data).length);
}

/** @param {Attachment} file @returns {string|null} an address for `<img>`, if it is a picture that may be shown */
export function picture({ kind, mime, data }) {
  if (kind !== 'image') return null;
  const address = data.startsWith('data:') ? data : `data:${mime};base64,${data}`;
  return PICTURE.test(address) ? address : null;
}

/** @param {Attachment[]} files */
export function attached(files) {
  const list = element('ul', 'attached');
  list.ariaLabel = catalogue.view.attached;
  for (const file of files) {
    const item = element('li');
    item.dataset.kind = file.kind;
    item.append(shown(file));
    list.append(item);
  }
  return list;
}

/** @param {Attachment} file */
function shown(file) {
  const address = picture(file);
  if (address) {
    const image = element('img');
    image.src = address;
    image.alt = file.name;
    image.title = file.name;
    return image;
  }
  const folded = element('details', 'file');
  const summary = element('summary');
  summary.append(icon('file'), element('span', 'name', file.name), element('span', 'size', size(file)));
  folded.append(summary);
  if (file.kind === 'text') {
    const text = element('pre', '', file.data);
    text.tabIndex = 0;
    folded.append(text);
  }
  return folded;
}
