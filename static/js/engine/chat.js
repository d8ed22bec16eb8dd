/**
 * One generation on WebLLM's engine: deltas out, one result at the end.
 *
 * WebLLM's interrupt is a flag of the whole engine that the next generation resets when it begins, so an early interrupt would be
 * lost: `stopped` is looked at again at every chunk. Text with an unfinished UTF-8 character is held back by WebLLM and given
 * when it is whole, and what may be a stop sequence by us; what is still held at the end is fetched there, so that the deltas
 * always add up to `text`.
 */

/** @import {Kept} from './kept.js' */
/** @import {ChatResult} from './wire.js' */
/** @import {MLCEngineInterface, ChatCompletionChunk} from '@mlc-ai/web-llm' */
import {EngineError, toError} from './errors.js';
import {formatOf} from './format.js';
import {holdback} from './holdback.js';
import {forget, keepable, keeping, takeUp} from './kept.js';

/** Set by us, whatever the caller says. */
const OURS = new Set(['stream', 'stream_options', 'messages', 'model', 'n']);

/** @typedef {{requestId: string, messages: unknown[], options?: Record<string, unknown>, journal?: Kept}} ChatArgs */
/** @typedef {{arrived: number, stopped: boolean, started: boolean}} Ticket a chat's life: `stopped` once its abort was asked */

/**
 * @param {MLCEngineInterface} engine with a model
 * @param {ChatArgs} args
 * @param {Ticket} ticket
 * @param {(delta: string) => void} onDelta
 * @returns {Promise<ChatResult>}
 * @throws {EngineError} of phase validate, prefill or decode
 */
export async function chat(engine, args, ticket, onDelta) {
  const started = performance.now();
  /** @type {ChatResult & {first: number|null}} */
  const out = {text: '', finishReason: 'abort', first: null, ...nothing(ticket, started)};
  const settled = holdback(args.options?.stop);
  /** @param {string} delta */
  const give = (delta) => {
    if (!delta) return;
    out.first ??= performance.now();
    out.text += delta;
    onDelta(delta);
  };
  try {
    for await (const chunk of await chunksOf(engine, args)) {
      take(chunk, out, (delta) => give(settled(delta)));
      if (ticket.stopped) engine.interruptGenerate();
    }
    give(await heldBack(engine, out.text, args.journal?.prefix ?? ''));
    if (args.journal && out.finishReason !== 'abort') await forget(engine, args.journal.session);
  } catch (cause) {
    throw toError(cause, out.first === null ? 'prefill' : 'decode');
  }
  const {first, ...result} = out;
  result.timings = {...result.timings, totalMs: performance.now() - ticket.arrived, ttftMs: first === null ? null : first - ticket.arrived};
  if (args.options?.logprobs) result.logprobs = allLogprobs(engine) ?? result.logprobs ?? [];
  return result;
}

/** @param {Ticket} ticket @returns {ChatResult} of a chat that was stopped before it began */
export const unbegun = (ticket) => ({text: '', finishReason: 'abort', ...nothing(ticket, performance.now())});

/** @param {Ticket} ticket @param {number} started @returns {Pick<ChatResult, 'usage'|'timings'>} */
const nothing = ({arrived}, started) => ({
  usage: {promptTokens: 0, completionTokens: 0, totalTokens: 0},
  timings: {ttftMs: null, totalMs: started - arrived, queuedMs: started - arrived, prefillTps: null, decodeTps: null},
});

/** @param {MLCEngineInterface} engine @param {ChatArgs} args @returns {Promise<AsyncIterable<ChatCompletionChunk>>} */
async function chunksOf(engine, args) {
  const {session, prefix} = args.journal ?? {};
  if (session && prefix) return takeUp(engine, session, prefix);
  const request = requestOf(args, pipelineOf(engine)?.conversation?.config?.role_templates ?? {});
  // One that was begun under this name and failed makes way; where it does not, the answer counts for more than its being kept.
  if (session && keepable(args.options ?? {}, args.messages) && (await forget(engine, session))) {
    Object.assign(request, {extra_body: keeping(session)});
  }
  return /** @type {any} */ (engine.chat.completions.create(/** @type {any} */ (request)));
}

/**
 * @param {ChatArgs} args @param {Partial<Record<string, string>>} templates of roles
 * @returns {Record<string, unknown>} WebLLM's request; absent and null options are left out
 */
function requestOf({messages, options = {}}, templates) {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new EngineError('MessageOrderError', 'messages: give at least one message.', 'validate');
  const shaped = options?.response_format ? {...options, response_format: formatOf(options.response_format)} : options;
  const kept = Object.entries(shaped ?? {}).filter(([name, value]) => value !== null && value !== undefined && !OURS.has(name));
  const filled = messages.map((one) => filledIn(one, templates));
  return {...Object.fromEntries(kept), messages: filled, stream: true, stream_options: {include_usage: true}};
}

/**
 * WebLLM puts a message into its role's template, where there is one, with `String.replace`, which takes `$$` and `$&` in it for its
 * own: there dollars are doubled. The system's is always one; that of other roles is where it is more than the message
 * (mlc_build/template.py), and in models from elsewhere.
 * @param {any} message @param {Partial<Record<string, string>>} templates by role @returns {any} the same, as it is to be filled in
 */
function filledIn(message, templates) {
  if (message?.role !== 'system' && !templates[message?.role]?.includes(`{${message?.role}_message}`)) return message;
  /** @param {any} text */
  const doubled = (text) => (typeof text === 'string' ? text.replaceAll('$', '$$$$') : text);
  const {content} = message;
  if (!Array.isArray(content)) return {...message, content: doubled(content)};
  return {...message, content: content.map((part) => (part.text ? {...part, text: doubled(part.text)} : part))};
}

/** @param {ChatCompletionChunk} chunk @param {ChatResult} out @param {(delta: string) => void} give */
function take(chunk, out, give) {
  const choice = chunk.choices[0];
  if (choice) {
    if (choice.finish_reason) out.finishReason = choice.finish_reason;
    if (choice.delta.tool_calls) out.toolCalls = choice.delta.tool_calls;
    if (choice.logprobs?.content) (out.logprobs ??= []).push(...choice.logprobs.content);
    give(choice.delta.content ?? '');
  }
  if (chunk.usage) account(chunk.usage, out);
}

/** @param {NonNullable<ChatCompletionChunk['usage']>} usage @param {ChatResult} out */
function account(usage, out) {
  out.usage = {promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens, totalTokens: usage.total_tokens};
  out.timings.prefillTps = finite(usage.extra?.prefill_tokens_per_s);
  out.timings.decodeTps = finite(usage.extra?.decode_tokens_per_s);
}

/** @param {number|undefined} value @returns {number|null} JSON has no NaN or infinity, and a rate over no time is neither */
const finite = (value) => (value !== undefined && Number.isFinite(value) ? value : null);

/**
 * @param {MLCEngineInterface} engine @param {string} text given so far @param {string} prefix that came before it
 * @returns {Promise<string>} the end that WebLLM has not given
 */
async function heldBack(engine, text, prefix) {
  const [whole, given] = [await engine.getMessage(), prefix + text];
  return whole.startsWith(given) ? whole.slice(given.length) : '';
}

/**
 * Every token's log-probability. WebLLM's stream drops those of tokens that end inside a character, its pipeline has them all.
 * @param {MLCEngineInterface} engine @returns {unknown[]|null} null where this WebLLM keeps them elsewhere
 */
const allLogprobs = (engine) => pipelineOf(engine)?.getTokenLogprobArray?.() ?? null;

/** @param {MLCEngineInterface} engine @returns {any} what runs the model that is loaded; undefined where this WebLLM keeps it elsewhere */
function pipelineOf(engine) {
  const pipelines = /** @type {{loadedModelIdToPipeline?: Map<string, any>}} */ (/** @type {unknown} */ (engine)).loadedModelIdToPipeline;
  return pipelines?.values().next().value;
}
