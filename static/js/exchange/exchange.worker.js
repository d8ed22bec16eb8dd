/**
 * Reads an import in a thread of its own, so that a file of any size never holds up the page. It goes on with the next conversation when
 * the page has stored the last one.
 *
 *     page -> worker  {file}, then {next: true} after each `found`
 *     worker -> page  Step (read.js), at last {kind: 'end'}
 */

import { read } from './read.js';

const scope = /** @type {DedicatedWorkerGlobalScope} */ (/** @type {unknown} */ (globalThis));

scope.onmessage = async (/** @type {MessageEvent} */ { data }) => {
  if (!data.file) return;
  let said = 0;
  for await (const step of read(data.file)) {
    if (step.kind === 'progress' && performance.now() - said < 100) continue;
    if (step.kind === 'progress') said = performance.now();
    const next = step.kind === 'found' ? new Promise((resolve) => scope.addEventListener('message', resolve, { once: true })) : null;
    scope.postMessage(step);
    await next;
  }
  scope.postMessage({ kind: 'end' });
};
