/**
 * What a person can ask the page to do, in one registry: the composer's `/` list and the command palette both read it. Whoever
 * owns a thing registers its commands; a command says its own title, in the page's language, and whether it can be done now.
 */

/**
 * @typedef {object} Command
 * @property {string} id stable and unique; its last part after a dot is what one types after `/`
 * @property {() => string} title what it does, for people
 * @property {string[]} [keywords] other words by which it is found
 * @property {string} [shortcut] as it is written on keys: 'Ctrl+K'
 * @property {string} [slash] what is typed after `/`; without it the command is in the palette only
 * @property {() => boolean} [available] whether it makes sense now; always, without it
 * @property {(rest: string) => unknown} run does it; `rest` is what was typed after the slash word
 */

export class Commands {
  /** @type {Map<string, Command>} */
  #known = new Map();

  /**
   * @param {...Command} commands a known id is replaced
   * @returns {() => void} takes them away again
   */
  register(...commands) {
    for (const command of commands) this.#known.set(command.id, command);
    return () => commands.forEach(({ id }) => this.#known.delete(id));
  }

  /** @returns {Command[]} those that can be run now, in the order in which they were registered */
  list() {
    return [...this.#known.values()].filter((command) => command.available?.() ?? true);
  }

  /**
   * @param {string} query words; each must be found in a command's title, keywords, slash word or id
   * @returns {Command[]} the best first: where a title or a slash word begins with the query
   */
  find(query) {
    const words = fold(query).split(/\s+/).filter(Boolean);
    return this.list()
      .map((command) => ({ command, rank: rank(command, words) }))
      .filter((found) => found.rank < Infinity)
      .sort((a, b) => a.rank - b.rank)
      .map((found) => found.command);
  }

  /** @param {string} id @param {string} [rest] @returns {boolean} whether there was such a command, and it could be run */
  run(id, rest = '') {
    const command = this.#known.get(id);
    if (!command || !(command.available?.() ?? true)) return false;
    command.run(rest);
    return true;
  }
}

/** The page's own. */
export const commands = new Commands();

/** @param {string} text without case and accents, so that `loschen` finds `Löschen` */
export const fold = (text) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

/**
 * @param {Command} command
 * @param {string[]} words folded
 * @returns {number} 0 is best, Infinity is no match
 */
function rank({ id, title, slash = '', keywords = [] }, words) {
  const name = fold(title());
  const all = [name, slash, id, ...keywords.map(fold)].join(' ');
  if (!words.every((word) => all.includes(word))) return Infinity;
  const query = words.join(' ');
  if (slash.startsWith(query)) return 0;
  return name.startsWith(query) ? 1 : name.includes(query) ? 2 : 3;
}
