/**
 * Two documents: `/`, where every mode can be had, and `/local`, whose policy lets nothing out. This is how one finds out which it
 * is, and how the open conversation goes from one to the other: by its id where it is on the shelf, which both share, else in this
 * tab's sessionStorage; never through the server.
 */

/** @import {Conversation} from './protocol.js' */

const CARRIED = 'hybr:carried';

/** @returns {'local'|'main'} */
export const place = () => (document.querySelector('meta[name=place]')?.getAttribute('content') === 'local' ? 'local' : 'main');

/**
 * Goes to the other document with what is open.
 * @param {'local'|'main'} to
 * @param {Conversation} conversation
 * @param {boolean} stored it is on the shelf as it is
 * @returns {boolean} false if this browser cannot keep it for so long: then nothing happens, for nothing shown may be lost
 */
export function move(to, conversation, stored) {
  const { nodes, temporary } = conversation;
  const byId = stored && !temporary;
  try {
    if (nodes.length && !byId) sessionStorage.setItem(CARRIED, JSON.stringify(conversation));
  } catch {
    return false;
  }
  const hash = byId && nodes.length ? `#c=${conversation.conversation.id}` : nodes.length ? '' : location.hash;
  location.assign((to === 'local' ? '/local' : '/') + hash);
  return true;
}

/** @returns {Conversation|null} what the other document left for this one, once */
export function carried() {
  try {
    const text = sessionStorage.getItem(CARRIED);
    sessionStorage.removeItem(CARRIED);
    return text ? JSON.parse(text) : null;
  } catch {
    return null; // storage is denied, or not ours
  }
}

/**
 * A person who prefers local-only is sent to its document before anything is started in the open one.
 * @param {Record<string, unknown>} stored
 * @param {Record<string, string|undefined>} query whose `mode` counts more
 * @returns {boolean} whether this page is being left
 */
export function sentOn(stored, query) {
  const preferences = /** @type {{mode?: unknown}|null|undefined} */ (stored.preferences);
  if (place() === 'local' || query.mode || preferences?.mode !== 'local-only') return false;
  location.replace(`/local${location.search}${location.hash}`);
  return true;
}
