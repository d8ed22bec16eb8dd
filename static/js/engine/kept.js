/**
 * Generations that WebLLM keeps in the browser's private files, token by token with the sampler's state, so that an answer cut off
 * by a reload or a crash goes on as if it never had been: same seed, same text.
 *
 * WebLLM would take a rebuilt model of the same id for the same one: a session's name has our model's revision in it. Its state
 * may be a moment behind what was shown (it is written every few tokens): what it makes again is held back until it covers the
 * shown text, and must agree with it. Whatever stands against that is a SessionGoneError, told before a piece of text is given.
 */

/** @import {MLCEngineInterface, ChatCompletionChunk} from '@mlc-ai/web-llm' */
import {EngineError} from './errors.js';

/** `prefix`: take that generation up, of which this was shown; without: begin one under this name. @typedef {{session: string, prefix?: string|null}} Kept */

/** How long a document that is just going away may take to let go of its session. */
const LEAVING_MS = 3000;
const AGAIN_MS = 50;
/** Token replay alone: a copy of the whole attention cache every so often would be hundreds of megabytes. */
const NO_CHECKPOINT = 2 ** 30;

/** @param {string} base '/models/<id>/<rev>/' @param {string} session @returns {string} */
export const nameOf = (base, session) => `${session}.${base.split('/').filter(Boolean).at(-1) ?? ''}`.replace(/[^\w.-]/g, '_');

/** @param {Record<string, any>} options @param {any[]} messages @returns {boolean} whether WebLLM can keep such a request */
export const keepable = (options, messages) =>
  (!options.response_format || options.response_format.type === 'text') && !options.tools && messages.every(({content}) => !Array.isArray(content));

/** @param {string} sessionId @returns {Record<string, unknown>} the request's field */
export const keeping = (sessionId) => ({
  resumable: {enabled: true, sessionId, durabilityMode: 'relaxed', checkpointPrompt: false, checkpointIntervalTokens: NO_CHECKPOINT},
});

/** @param {MLCEngineInterface} engine @param {string} id @returns {Promise<boolean>} whether it is not there any more */
export async function forget(engine, id) {
  try {
    await engine.deleteResumableSession(id);
    return true;
  } catch (error) {
    console.warn('a kept generation stays:', error);
    return false;
  }
}

/**
 * @param {MLCEngineInterface} engine @param {string} id @param {string} prefix
 * @returns {AsyncGenerator<ChatCompletionChunk>} its text is what comes after the prefix
 * @throws {EngineError} SessionGoneError
 */
export async function* takeUp(engine, id, prefix) {
  const {said, first, rest} = await entered(engine, id, prefix);
  let text = said;
  let given = false;
  try {
    for (let step = first; !step.done; step = await rest.next()) {
      const chunk = step.value;
      text += chunk.choices[0]?.delta.content ?? '';
      if (!given && !agree(text, prefix)) throw gone('another text came of it');
      const covers = text.length >= prefix.length;
      const delta = given ? chunk.choices[0]?.delta.content ?? '' : covers ? text.slice(prefix.length) : '';
      if (!given && !covers && chunk.choices[0]?.finish_reason === 'stop') throw gone('it ended before what was shown');
      given ||= covers;
      yield saying(chunk, delta);
    }
  } finally {
    await rest.return?.();
  }
}

/** @param {MLCEngineInterface} engine @param {string} id @param {string} prefix @returns {Promise<{said: string, first: IteratorResult<ChatCompletionChunk>, rest: AsyncIterator<ChatCompletionChunk>}>} */
async function entered(engine, id, prefix) {
  const until = performance.now() + LEAVING_MS;
  for (;;) {
    try {
      const {recoveredText: said = ''} = /** @type {{recoveredText?: string}} */ (await engine.resumeChatCompletion(id));
      if (!agree(said, prefix)) throw gone('it holds another text');
      const found = /** @type {any} */ (await engine.resumeChatCompletion(id, {continueGeneration: true, stream: true}));
      const rest = (found[Symbol.asyncIterator] ? found : await ended(engine, id, said, prefix))[Symbol.asyncIterator]();
      return {said, first: await rest.next(), rest}; // WebLLM replays at the first one
    } catch (cause) {
      if (!/already active/.test(String(cause)) || performance.now() > until) throw cause instanceof EngineError ? cause : gone(String(cause));
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/**
 * It cannot be continued. When that is because it had come to its end (the document went away before it could say so), nothing is
 * to be made any more: what was not shown of it is all there is to give.
 * @param {MLCEngineInterface} engine @param {string} id @param {string} said @param {string} prefix
 * @returns {Promise<AsyncIterable<ChatCompletionChunk>>} @throws {EngineError} SessionGoneError
 */
async function ended(engine, id, said, prefix) {
  const {reason = 'it cannot be continued'} = (await engine.listResumableSessions()).find(({sessionId}) => sessionId === id) ?? {};
  if (!/finished/.test(reason) || !said.startsWith(prefix)) throw gone(reason);
  const last = /** @type {any} */ ({choices: [{index: 0, delta: {}, finish_reason: 'stop'}]});
  return (async function* () {
    yield last;
  })();
}

/** @param {string} one @param {string} other @returns {boolean} whether the longer begins with the shorter */
const agree = (one, other) => one.startsWith(other) || other.startsWith(one);

/** @param {string} why */
const gone = (why) => new EngineError('SessionGoneError', `The kept generation cannot be taken up: ${why}.`, 'prefill');

/** @param {ChatCompletionChunk} chunk @param {string} content @returns {ChatCompletionChunk} */
const saying = (chunk, content) =>
  chunk.choices[0] ? {...chunk, choices: [{...chunk.choices[0], delta: {...chunk.choices[0].delta, content}}]} : chunk;
