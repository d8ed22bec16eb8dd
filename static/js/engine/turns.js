/**
 * One thing on the GPU at a time, in the order asked for.
 *
 * A job that fails does not stop the ones after it. A waiting job may be given up before its turn: `skip` is asked whenever
 * `nudge` is called, and if it says so the job rejects with SKIPPED at once and never runs.
 */

/** What a skipped job rejects with. */
export const SKIPPED = Symbol('skipped');

export class Turns {
  /** @type {Promise<unknown>} the end of the queue */ #tail = Promise.resolve();
  /** @type {Set<() => void>} */ #waiting = new Set();

  /**
   * Run `job` when everything before it has ended.
   * @template T
   * @param {() => Promise<T>} job
   * @param {() => boolean} [skip]
   * @returns {Promise<T>}
   */
  take(job, skip = () => false) {
    const before = this.#tail;
    /** @type {() => void} */
    let wake = () => {};
    const turn = new Promise((resolve, reject) => {
      before.then(resolve);
      wake = () => skip() && reject(SKIPPED);
      this.#waiting.add(wake);
    }).finally(() => this.#waiting.delete(wake));
    const done = turn.then(job);
    this.#tail = Promise.allSettled([before, done]);
    return done;
  }

  /** Ask the waiting jobs whether they are still wanted. */
  nudge() {
    for (const wake of [...this.#waiting]) wake();
  }
}
