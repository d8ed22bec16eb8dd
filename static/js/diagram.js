/**
 * Mermaid diagrams, for those who ask for them (preference `mermaid`; off by default): the library is large, and loaded when the first
 * one is drawn. A diagram becomes a picture: an SVG inside `<img>`, where nothing runs, nothing is fetched and no style gets out. The
 * library itself works on the model's text in this document, under the page's policy, which runs no inline script and asks no other
 * host; sources that could make it ask ours (pictures, links, styles with addresses, settings of their own) stay code.
 */

import { element } from './dom.js';
import { readStored } from './stored.js';
import { catalogue } from './strings.js';

/** @typedef {{initialize(config: object): void, render(id: string, text: string): Promise<{svg: string}>}} Mermaid */

const LONGEST = 20_000;
const REFUSED = new RegExp(
  ['@\\{', '%%\\{', '^\\s*---', 'url\\s*\\(', '@import', 'javascript:', '//', '&[#\\w]+;', '<\\s*[a-z/!]', '^\\s*(?:click|href|links?|callback|properties|details)\\b']
    .join('|'),
  'im',
);

/** @type {Promise<Mermaid>|null} */
let loading = null;
let drawn = 0;

/** @param {string} lang of a code block */
export const isDiagram = (lang) => lang === 'mermaid';

/** @returns {boolean} whether the person wants diagrams drawn */
const wanted = () => /** @type {{mermaid?: boolean}} */ (readStored().preferences ?? {}).mermaid === true;

/** @returns {Promise<Mermaid>} */
function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = element('script'); // a classic script: the library's own build is one
    script.src = new URL('../vendor/mermaid/mermaid.tiny.js', import.meta.url).href;
    script.onload = () => resolve(/** @type {any} */ (globalThis).mermaid);
    script.onerror = () => reject(new Error('the diagram library cannot be loaded'));
    document.head.append(script);
  });
  return loading;
}

/** @param {HTMLElement} block of code that is done; what cannot be drawn stays code */
export async function draw(block) {
  const source = block.querySelector('code')?.textContent ?? '';
  if (!wanted() || source.length > LONGEST || REFUSED.test(source)) return;
  try {
    const mermaid = await load();
    const dark = getComputedStyle(document.documentElement).getPropertyValue('color-scheme') === 'dark'
      || (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: 'strict',
      suppressErrorRendering: true,
      htmlLabels: false,
      flowchart: { htmlLabels: false },
      class: { htmlLabels: false },
      maxTextSize: LONGEST,
      maxEdges: 300,
      fontFamily: 'sans-serif',
      theme: dark ? 'dark' : 'neutral',
    });
    const { svg } = await mermaid.render(`hybr-diagram-${(drawn += 1)}`, source);
    if (block.isConnected) show(block, svg);
  } catch (error) {
    console.info('not a diagram:', error instanceof Error ? error.message : error);
  }
}

/** @param {HTMLElement} block @param {string} svg */
function show(block, svg) {
  const words = catalogue.view;
  const pre = block.querySelector('pre');
  const bar = block.querySelector('.code-bar');
  if (!pre || !bar) return;
  const picture = element('img', 'diagram');
  const [, width, height] = /viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"/.exec(svg) ?? [];
  if (width && height) Object.assign(picture, { width: Math.ceil(Number(width)), height: Math.ceil(Number(height)) });
  picture.alt = words.diagram;
  picture.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  const toggle = element('button', 'copy-code', words.source);
  toggle.type = 'button';
  toggle.ariaPressed = 'false';
  toggle.addEventListener('click', () => {
    pre.hidden = !pre.hidden;
    toggle.ariaPressed = String(!pre.hidden);
  });
  pre.hidden = true;
  bar.lastElementChild?.before(toggle);
  pre.before(picture);
}
