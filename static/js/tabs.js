/**
 * Which tab has the engine. One leads, by a Web Lock, and starts the engine's worker; the others find it by the lock that it holds.
 * When the leader goes, its engine goes, and the next tab to ask leads. Tabs under another policy (`/local`) are a world of their own,
 * for a worker's policy is that of the tab that started it.
 */

const LOOK_MS = 50;

export class Tabs {
  #place;
  #bell;
  #leads = false;

  /** @param {string} place @param {(lock: string) => void} onRestart another tab finds that the engine of this lock, ours, hangs */
  constructor(place, onRestart) {
    this.#place = place;
    this.#bell = new BroadcastChannel(`hybr-tabs-${place}`);
    this.#bell.onmessage = ({ data }) => this.#leads && onRestart(String(data.restart));
  }

  /** @returns {string} a name for the lock of a new engine of ours */
  name() {
    return `${this.#prefix}${crypto.randomUUID()}`;
  }

  /**
   * @param {string|null} [gone] the lock of the engine that is of no use any more
   * @returns {Promise<string|null>} the lock of another tab's engine; null where this tab leads and is to start one
   */
  async find(gone = null) {
    for (;;) {
      if (await this.#lead()) return null;
      const { held = [] } = await navigator.locks.query();
      const engine = held.find(({ name, mode }) => name?.startsWith(this.#prefix) && !name.includes('/') && name !== gone && mode === 'exclusive');
      if (engine?.name) return engine.name;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** @param {string} lock asks the leader for another engine in place of this one */
  complain(lock) {
    if (!this.#leads) this.#bell.postMessage({ restart: lock });
  }

  /** @returns {Promise<boolean>} whether this tab leads, from now on and for life if it did not */
  async #lead() {
    if (this.#leads) return true;
    this.#leads = await new Promise((resolve) => {
      void navigator.locks.request(`hybr-leader-${this.#place}`, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && new Promise(() => {});
      });
    });
    return this.#leads;
  }

  get #prefix() {
    return `hybr-engine-${this.#place}-`;
  }
}
