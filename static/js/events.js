/**
 * The page's EventBus. Handlers run in the order they came; a failing one is reported and harms nobody; a handler
 * that is taken off while an event is under way no longer gets it. Each event also goes to `window` as a CustomEvent.
 */

/** @typedef {(detail: any) => void} Handler */

export class EventBus {
  /** @type {Map<string, Set<Handler>>} */
  #handlers = new Map();

  /**
   * @param {string} name
   * @param {Handler} handler
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    if (typeof handler !== 'function') throw new TypeError(`EventBus.on('${name}') needs a function to call.`);
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => this.off(name, handler);
  }

  /**
   * @param {string} name
   * @param {Handler} handler
   */
  off(name, handler) {
    this.#handlers.get(name)?.delete(handler);
  }

  /**
   * @param {string} name
   * @param {unknown} [detail]
   */
  emit(name, detail) {
    const handlers = this.#handlers.get(name);
    for (const handler of [...(handlers ?? [])]) {
      if (!handlers?.has(handler)) continue;
      try {
        handler(detail);
      } catch (error) {
        reportError(error);
      }
    }
    window.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
