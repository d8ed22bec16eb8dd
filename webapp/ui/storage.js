/** What this page's files take of the browser's storage, and whether they are kept; the browser alone knows, and alone grants it. */

import { h, say } from './dom.js';
import { bytes, catalogue } from './words.js';

const words = catalogue.models;

/**
 * @param {(message: object) => void} send tells Python too, which decides by it what fits
 * @returns {{node: HTMLElement, refresh: () => Promise<void>}}
 */
export function storage(send) {
  const figures = h('p', { class: 'figures', 'data-testid': 'storage' });
  const bar = h('span', { class: 'bar' }, h('i'));
  const line = h('p', { class: 'line', role: 'status' });
  const keep = h('button', { type: 'button', class: 'quiet', 'data-testid': 'persist', text: words.persist, onclick: () => void persist() });
  const node = h('div', { class: 'storage' }, h('h3', { text: words.storage }), bar, figures, line, keep);
  let told = '';

  async function refresh() {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate().catch(() => ({ quota: 0, usage: 0 }));
    const persisted = await navigator.storage.persisted().catch(() => false);
    node.hidden = !quota;
    bar.style.setProperty('--done', `${quota ? Math.min(100, Math.ceil((usage / quota) * 100)) : 0}%`);
    say(figures, words.used(bytes(usage), bytes(quota)));
    figures.dataset.persisted = persisted ? 'yes' : 'no';
    if (line.dataset.refused !== 'yes') say(line, persisted ? words.persisted : words.volatile);
    keep.hidden = persisted;
    const now = JSON.stringify({ quota, usage, persisted });
    if (now !== told) send({ action: 'storage', quota, usage, persisted });
    told = now;
  }

  async function persist() {
    const granted = await navigator.storage.persist().catch(() => false);
    line.dataset.refused = granted ? 'no' : 'yes';
    if (!granted) say(line, words.persistRefused);
    await refresh();
  }

  return { node, refresh: () => refresh().catch((error) => console.warn('storage:', error)) };
}
