/**
 * ModuleLoader: `await ModuleLoader.getModule(name)` gives a part of HYBR by the name the blueprint uses, once the core is up.
 * Asked earlier, it waits; an unknown name is refused with the names that there are; if the core cannot start, it says why.
 */

import { coded } from './errors.js';

export class ModuleLoader {
  /** @type {Map<string, object>} */
  #modules = new Map();
  /** @type {PromiseWithResolvers<void>} */
  #ready = Promise.withResolvers();

  constructor() {
    this.#ready.promise.catch(() => {}); // nobody may be waiting; those who are get their own rejection
  }

  /**
   * @param {string} name
   * @param {object} module
   */
  register(name, module) {
    this.#modules.set(name, module);
  }

  ready() {
    this.#ready.resolve();
  }

  /** @param {Error} error why no module will ever be ready */
  fail(error) {
    this.#ready.reject(error);
  }

  /**
   * @param {string} name
   * @returns {Promise<any>}
   */
  async getModule(name) {
    await this.#ready.promise;
    const module = this.#modules.get(name);
    if (module) return module;
    const known = [...this.#modules.keys()].join(', ');
    throw coded('UnknownModuleError', `There is no module '${name}'. There are: ${known}.`, 'unknown_module');
  }
}
