/**
 * One progress from 0 to 1 over download and load, never going back.
 *
 * Downloading takes the first 80 %, moving into the GPU the rest. WebLLM counts its own steps from 0 to 1 twice (weights, then
 * shader modules); each gets half of the rest. Rate and ETA come from the last seconds of the download, not from its whole.
 */

/** @import {ProgressEvent} from './wire.js' */

const DOWNLOAD_SHARE = 0.8;
const WINDOW_MS = 5000;
const EVERY_MS = 100;

export class Progress {
  /**
   * @param {number} totalBytes
   * @param {(event: ProgressEvent) => void} emit
   * @param {() => number} [now] clock in ms
   */
  constructor(totalBytes, emit, now = () => performance.now()) {
    this.totalBytes = totalBytes;
    this.loadedBytes = 0;
    this.shownBytes = 0;
    this.emit = emit;
    this.now = now;
    this.highest = 0;
    this.last = -Infinity;
    /** @type {{at: number, bytes: number}[]} arrivals of the last seconds */
    this.recent = [];
  }

  /** @param {number} bytes already in the browser before this download: they count as done, but say nothing about the rate */
  skip(bytes) {
    this.loadedBytes += bytes;
    this.#report('download', this.#downloadShare(), bytes ? `${mb(bytes)} are in this browser already` : 'Starting the download', true, bytes ? 'present' : 'starting');
  }

  /** @param {number} bytes more than was known of: another host does not state all its files' sizes */
  grow(bytes) {
    this.totalBytes += bytes;
  }

  /** @param {number} bytes just arrived; negative when a file is begun again */
  add(bytes) {
    this.loadedBytes += bytes;
    this.recent.push({at: this.now(), bytes: Math.max(0, bytes)});
    this.#report('download', this.#downloadShare(), `Downloading ${mb(this.loadedBytes)} of ${mb(this.totalBytes)}`, false);
  }

  /** @param {{progress: number, text: string}} report WebLLM's own; its words are for developers, so ours are shown */
  engine({progress, text}) {
    const [from, to, said, step] = /processor/.test(text) ? [0, 0.5, 'Putting the model into memory', 'memory']
      : /shader modules/i.test(text) ? [0.5, 1, 'Preparing the model for this device', 'kernels']
      : /^Finish/.test(text) ? [1, 1, 'Loaded', 'loaded'] : [0, 0.5, 'Putting the model into graphics memory', 'graphics'];
    const part = from + (to - from) * Math.min(1, Math.max(0, progress || 0));
    this.#report('load', DOWNLOAD_SHARE + (1 - DOWNLOAD_SHARE) * part, said, true, step);
  }

  /** @returns {number|null} bytes a second over the last seconds */
  rate() {
    const since = this.now() - WINDOW_MS;
    while (this.recent[0] && this.recent[0].at < since) this.recent.shift();
    const first = this.recent[0];
    const span = first ? this.now() - first.at : 0;
    return span > 200 ? (this.recent.reduce((total, {bytes}) => total + bytes, 0) * 1000) / span : null;
  }

  /** @returns {number} */
  #downloadShare() {
    return DOWNLOAD_SHARE * (this.totalBytes ? Math.min(1, this.loadedBytes / this.totalBytes) : 1);
  }

  /**
   * @param {'download'|'load'} phase @param {number} progress @param {string} text
   * @param {boolean} now say it however short the last one was ago
   * @param {string} [step] what `text` says, as one word
   */
  #report(phase, progress, text, now, step = 'downloading') {
    this.highest = Math.max(this.highest, progress);
    this.shownBytes = Math.max(this.shownBytes, this.loadedBytes); // a file begun again takes nothing back on the screen
    const whole = this.loadedBytes >= this.totalBytes;
    if (!now && !whole && this.now() - this.last < EVERY_MS) return;
    this.last = this.now();
    const rate = phase === 'download' ? this.rate() : null;
    const left = this.totalBytes - this.loadedBytes;
    this.emit({
      type: 'progress', phase, step, text,
      loadedBytes: this.shownBytes, totalBytes: this.totalBytes,
      progress: this.highest,
      bytesPerSecond: rate === null ? null : Math.round(rate),
      etaS: rate ? Math.round(left / rate) : null,
    });
  }
}

/** @param {number} bytes @returns {string} */
export const mb = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
