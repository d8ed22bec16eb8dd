/** IndexedDB in promises: a database that is opened at its first use, and opened again at the next after it was closed. */

export class Database {
  #name;
  #version;
  #make;
  /** @type {Promise<IDBDatabase>|null} */ #opened = null;

  /** @param {string} name @param {number} version @param {(database: IDBDatabase) => void} make its stores, where there are none yet */
  constructor(name, version, make) {
    this.#name = name;
    this.#version = version;
    this.#make = make;
  }

  /** @returns {Promise<IDBDatabase>} rejects with the browser's own error, and tries again at the next call */
  open() {
    this.#opened ??= opening(this.#name, this.#version, this.#make).then(
      (database) => {
        database.onversionchange = () => this.close(); // a later page is about to change it
        database.onclose = () => (this.#opened = null); // the person has cleared this site's data
        return database;
      },
      (error) => {
        this.#opened = null;
        throw error;
      },
    );
    return this.#opened;
  }

  /** Lets go of the database. */
  close() {
    void this.#opened?.then((database) => database.close(), () => {});
    this.#opened = null;
  }

  /**
   * One transaction: all of the work or nothing.
   * @template T
   * @param {string[]} names of stores
   * @param {IDBTransactionMode} mode
   * @param {(...stores: any[]) => Promise<T>} work that awaits nothing but requests
   * @returns {Promise<T>} when it is all in the database
   */
  async run(names, mode, work) {
    const transaction = (await this.open()).transaction(names, mode);
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    ended.catch(() => {}); // where the work itself has failed, that is told
    try {
      const result = await work(...names.map((name) => transaction.objectStore(name)));
      await ended;
      return result;
    } catch (error) {
      quietly(() => transaction.abort());
      throw error;
    }
  }
}

/** @param {string} name @param {number} version @param {(database: IDBDatabase) => void} make @returns {Promise<IDBDatabase>} */
export function opening(name, version, make) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, version);
    request.onupgradeneeded = () => make(request.result);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {IDBRequest} request @returns {Promise<any>} */
export function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {() => void} work that may have been done already */
function quietly(work) {
  try {
    work();
  } catch {
    // It was.
  }
}
