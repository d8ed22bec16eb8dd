/**
 * What the engine client (python worker) and the engine worker say to each other over their MessagePort.
 *
 *     client -> worker   {kind: 'call', id, op, args}     one answer each: 'result' or 'error', any number of 'event's before it
 *                        {kind: 'ping', n}                answered by 'pong' at once, whatever else goes on
 *     worker -> client   {kind: 'hello'}                  the worker holds its Web Lock from here on
 *                        {kind: 'result'|'error'|'event', id, ...}
 *                        {kind: 'pong', n}
 *                        {kind: 'lost', error}            nobody asked: the loaded model went with its device; replace the worker
 *                        {kind: 'state', status}          nobody asked: another tab (tabs.js) loaded or unloaded, or its load goes on
 *
 * Operations, with the arguments and results that Python sees as JSON (camelCase):
 *
 *   status       {} -> Status
 *   load         {model: ModelEntry, profile?, runtime?} -> Loaded; events `progress`. Replaces whatever is loaded or loading. Rejects with
 *                AbortError after `cancel-load`, `unload` or a newer `load`.
 *   cancel-load  {} -> {cancelled: boolean}
 *   chat         {requestId, messages, options, journal?} -> ChatResult; events `delta`. One generation at a time, the rest wait in a queue.
 *                `journal` (kept.js) {session} keeps it under that name; {session, prefix} takes it up: the text is what comes after the
 *                prefix, or it rejects with SessionGoneError before any delta.
 *   abort        {requestId} -> {aborted: boolean}. That chat (and no other) resolves with finishReason 'abort' and the text so far.
 *   unload       {unless?, runtime?} -> {unloaded: id|null}; running and waiting chats end as if aborted. Nothing happens if model
 *                `unless` is what is loaded or loading (in `runtime`).
 *   cached       {ids?: string[], runtime?} -> {models: CachedModel[], partial: PartialModel[]}: what is whole in this browser (no
 *                argument: all), and downloads that were begun and are not
 *   verify       {id, model?} -> {files, damaged: path[], repaired}: every file's sha256 anew; what is damaged is dropped, and with `model`
 *                (ModelEntry) fetched again; events `progress`
 *   inspect      {model, library?} -> Inspected (remote.js): whether a model lies at that address of another host
 *   delete       {id} -> {id, bytes}: bytes freed; a loaded model stays loaded
 *   ping         {} -> {now}
 */

/** @typedef {'probe'|'download'|'load'|'prefill'|'decode'|'validate'|'worker'} Phase where a failure happened */
/** @typedef {'webgpu'|'wasm'} Runtime WebLLM, or llama.cpp in WebAssembly where there is no WebGPU */
/** @typedef {'gpu'|'subgroups'|'software'|'wasm'} Profile a model's forms: kernels for a GPU, for one with subgroups, for a CPU; `wasm`: its GGUF */

/**
 * `sha256` in hex, `bytes` uncompressed; null where another host states none. `url` where the file is not beside the others.
 * @typedef {{path: string, bytes: number|null, sha256: string|null, sri?: string, url?: string}} ModelFile
 */

/**
 * `sampling`: where the caller says nothing. `plain`: ChatML without the file's own default system turn.
 * @typedef {ModelFile & {sampling?: {temperature: number, top_p: number}, plain?: boolean}} Gguf
 */

/**
 * One entry of /models/index.json, as far as the engine reads it.
 * @typedef {object} ModelEntry
 * @property {string} id
 * @property {string} [state] 'built' or why not
 * @property {string|null} base '/models/<id>/<rev>/', null while there is nothing to load; an address at another host with `remote`
 * @property {{library: string|null, manifest: boolean}} [remote] a model of another host, whose `files` are found out when it is loaded
 * @property {Record<string, number>} [overrides] go over mlc-chat-config.json
 * @property {boolean} [vision] it reads pictures
 * @property {{gpu?: string, subgroups?: string, software?: string}} libraries path of the library by profile; gpu's stands in for the others
 * @property {ModelFile[]} files
 * @property {Gguf|null} [gguf] the same model for llama.cpp; without it there is none for runtime `wasm`
 * @property {number} [context] window in tokens
 * @property {string} [quantisation]
 * @property {string[]} [features] adapter features it needs, e.g. 'shader-f16'
 */

/** @typedef {{name: string, message: string, phase: Phase, [detail: string]: unknown}} EngineFailure */

/**
 * `progress` is 0..1 over download and load together and never goes back.
 * @typedef {{type: 'progress', phase: 'download'|'load', loadedBytes: number, totalBytes: number, progress: number,
 *   bytesPerSecond: number|null, etaS: number|null, text: string, step: string}} ProgressEvent
 * @typedef {{type: 'delta', delta: string}} DeltaEvent
 * @typedef {ProgressEvent | DeltaEvent} EngineEvent
 */

/** @typedef {{vendor: string, architecture: string, description: string, fallback: boolean}} Gpu */

/**
 * `gpu` is null and `threads` set with runtime `wasm`.
 * @typedef {{model: string, base: string, profile: Profile, gpu: Gpu|null, threads?: number, downloadedBytes: number, downloadS: number,
 *   loadS: number}} Loaded
 */

/**
 * `finishReason`: 'stop', 'length' (max_tokens or context), 'abort', 'tool_calls'. `ttftMs` counts from the call's arrival, so it
 * includes `queuedMs`. `logprobs` only when asked for: one entry a token, OpenAI's form.
 * @typedef {object} ChatResult
 * @property {string} text
 * @property {string} finishReason
 * @property {{promptTokens: number, completionTokens: number, totalTokens: number}} usage
 * @property {{ttftMs: number|null, totalMs: number, queuedMs: number, prefillTps: number|null, decodeTps: number|null}} timings
 * @property {unknown[]} [logprobs]
 * @property {unknown[]} [toolCalls]
 */

/**
 * @typedef {object} Status
 * @property {'empty'|'loading'|'ready'|'lost'} state
 * @property {string|null} model the loaded one
 * @property {string|null} loading the one being loaded
 * @property {Profile|null} profile
 * @property {Gpu|null} gpu
 * @property {number|null} threads with profile wasm
 * @property {string|null} active requestId of the running chat
 * @property {number} queued chats waiting
 */

/** @typedef {{id: string, base: string, bytes: number, profile: Profile}} CachedModel */
/** @typedef {{id: string, profile: Profile, bytes: number, have: number}} PartialModel `have` of `bytes` are here */

/** @typedef {{kind: 'call', id: number, op: string, args: any} | {kind: 'ping', n: number}} ToWorker */

/**
 * @typedef {{kind: 'hello'} | {kind: 'pong', n: number} | {kind: 'lost', error: EngineFailure}
 *   | {kind: 'state', status: Status & {progress?: ProgressEvent}}
 *   | {kind: 'result', id: number, value: unknown} | {kind: 'error', id: number, error: EngineFailure}
 *   | {kind: 'event', id: number, event: EngineEvent}} ToClient
 */

export {};
