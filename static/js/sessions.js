/**
 * The generations that WebLLM keeps for answers under way (engine/kept.js): removed when nobody can want them any more.
 *
 * Done here, in the document, since a person may drop an answer when no model, and no WebLLM, is loaded. A session that is being
 * written is held by a Web Lock of WebLLM's: with it held, nobody else touches the folder.
 */

/** Where WebLLM 0.2 has them, and what it calls their locks: tests/e2e/test_crash_safe.py fails when it moves them. */
const ROOT = ['webllm-resume', 'sessions'];
const LOCK = (/** @type {string} */ session) => `webllm-resumable:${[...ROOT, session, 'lock'].join('/')}`;
/** What this page's answers are called (webapp/page/chat.py); others' sessions are not ours to remove. */
const OURS = 'answer-';
/** How long a generation that was stopped may take to end; what is still held then goes at the next start. */
const ENDING_MS = 30_000;

/** @param {string} answer that has ended @returns {Promise<void>} */
export async function drop(answer) {
  await remove((session) => session.startsWith(`${answer}.`), { signal: AbortSignal.timeout(ENDING_MS) });
}

/** @param {string[]} answers that may still be gone on with @returns {Promise<void>} when what other answers left behind is gone */
export async function sweep(answers) {
  await remove((session) => session.startsWith(OURS) && !answers.some((answer) => session.startsWith(`${answer}.`)), { ifAvailable: true });
}

/** @param {(session: string) => boolean} which @param {LockOptions} options how to wait for those in use */
async function remove(which, options) {
  try {
    let folder = await navigator.storage.getDirectory();
    for (const name of ROOT) folder = await folder.getDirectoryHandle(name);
    const names = [];
    for await (const name of /** @type {any} */ (folder).keys()) if (which(name)) names.push(name);
    for (const name of names) {
      await navigator.locks.request(LOCK(name), options, (lock) => lock && folder.removeEntry(name, { recursive: true }));
    }
  } catch (error) {
    if (/** @type {Error} */ (error).name !== 'NotFoundError') console.warn('kept generations:', error);
  }
}
