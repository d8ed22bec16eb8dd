/**
 * The open conversation in the tab's title, and its id in the address bar, as `#c=ID`: a reload opens it again, Back goes to the one before, and it never
 * reaches a server, which a query would. All else in the address (`?model=`, `/local`) is left as it is; `?c=ID` is understood too.
 */

/** @import {OpenConversation} from './protocol.js' */

const NAME = document.title;
const HASH = /^#c=([\w-]+)$/;

/** @returns {string|null} the id that the address names */
export function addressed() {
  return HASH.exec(location.hash)?.[1] ?? new URLSearchParams(location.search).get('c');
}

export class Address {
  #asked;
  /** Whether the person went there by the browser's own buttons: what is shown then has an entry already. */
  #went = false;
  /** @type {string|null} the conversation that this entry of the tab's history shows */ #here = addressed();

  /** @param {(id: string|null) => void} asked the person went back or forth to that one; null: to a new one */
  constructor(asked) {
    this.#asked = asked;
    addEventListener('popstate', () => this.#moved());
  }

  /**
   * The page shows this one now: another conversation is another entry of the history, a new one's first message is not.
   * @param {OpenConversation} conversation
   */
  shows({ id, stored, title }) {
    const now = stored ? id : null;
    document.title = now && title ? `${title} · ${NAME}` : NAME; // one that is kept nowhere is not named there either
    const another = this.#here !== null && now !== this.#here && !this.#went;
    this.#here = now;
    this.#went = false;
    if (location.href !== to(now)) history[another ? 'pushState' : 'replaceState'](null, '', to(now));
  }

  #moved() {
    if (location.hash && !HASH.test(location.hash)) {
      history.replaceState(null, '', to(this.#here)); // a link within the page, such as `skip`
      return;
    }
    const id = addressed();
    if (id === this.#here) return;
    this.#here = id;
    this.#went = true;
    this.#asked(id);
  }
}

/** @param {string|null} id @returns {string} the address of a conversation, or of none */
function to(id) {
  const url = new URL(location.href);
  url.searchParams.delete('c');
  url.hash = id ? `c=${id}` : '';
  return url.href;
}
