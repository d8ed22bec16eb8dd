/**
 * One engine for all tabs: the way from another tab's Python worker to the engine worker of the tab that leads.
 *
 * A BroadcastChannel reaches the workers of every tab of the origin; each tab has one of its own with the engine, named after the
 * engine's lock, and says `join` at the engine's door first. Locks tell who lives: the engine holds its own, for which every client
 * waits, and a tab holds one for as long as it is a client, for which the engine waits. What is said before the engine has answered
 * the door is kept until then.
 */

/** @typedef {{postMessage: (message: object) => void, onmessage: ((event: MessageEvent) => void)|null}} Line */

/** @param {string} lock of the engine */
const doorOf = (lock) => `${lock}/door`;

/** A client's end, with the manners of a MessagePort. */
export class RelayPort extends EventTarget {
  #lock;
  #name;
  #channel;
  /** @type {object[]|null} what waits for the engine's first word */ #waiting = [];
  #leave = () => {};

  /** @param {string} lock of the engine, held by its worker in another tab */
  constructor(lock) {
    super();
    this.#lock = lock;
    this.#name = `${lock}/${crypto.randomUUID()}`;
    this.#channel = new BroadcastChannel(this.#name);
  }

  start() {
    this.#channel.onmessage = ({data}) => {
      const waiting = this.#waiting ?? [];
      this.#waiting = null;
      for (const message of waiting) this.#channel.postMessage(message);
      this.dispatchEvent(new MessageEvent('message', {data}));
    };
    const held = new Promise((resolve) => {
      this.#leave = () => resolve(undefined);
    });
    void navigator.locks.request(this.#name, () => {
      const door = new BroadcastChannel(doorOf(this.#lock));
      door.postMessage({join: this.#name});
      door.close();
      return held;
    });
  }

  /** @param {object} message */
  postMessage(message) {
    if (this.#waiting) this.#waiting.push(message);
    else this.#channel.postMessage(message);
  }

  close() {
    this.#leave();
    this.#channel.close();
  }
}

/**
 * The engine's end. To be called before the engine's lock is held: whoever sees the lock may come to the door.
 * @param {string} lock of the engine
 * @param {(line: Line, name: string) => () => void} admit takes a tab as a client; what it returns is called when that tab is gone
 */
export function openDoor(lock, admit) {
  const door = new BroadcastChannel(doorOf(lock));
  door.onmessage = ({data}) => {
    const name = String(data.join);
    const line = new BroadcastChannel(name);
    const leave = admit(line, name);
    void navigator.locks.request(name, () => {
      leave();
      line.close();
    });
  };
}
