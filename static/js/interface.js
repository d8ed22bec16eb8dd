/**
 * The types of what `ModuleLoader.getModule` hands out (facades.js): methods, their arguments, what they answer.
 *
 * Types only. tests/unit/glue/test_types.py holds them against webapp/page/rpc.py: every method with its arguments, every field of
 * what the methods really answer.
 */

/** @import {Chunk, ChatMessage, Mode, Provider, WireError} from './protocol.js' */

/**
 * What a request may ask for; what is left out is the model's default, or the person's preference.
 * @typedef {object} Options
 * @property {number} [temperature]
 * @property {number} [maxOutputTokens]
 * @property {number} [topP]
 * @property {string|string[]} [stop]
 * @property {number} [seed]
 * @property {object} [responseFormat]
 * @property {object[]} [tools]
 * @property {unknown} [toolChoice]
 * @property {AbortSignal} [signal]
 * @property {string} [requestId]
 * @property {boolean} [private]
 * @property {string} [model]
 * @property {number} [timeoutMs]
 * @property {'allow'|'redact'|'ask'|'never'} [egress]
 * @property {'continue'|'restart'|'stop'} [handover] what becomes of an answer whose model fails in the middle
 * @property {boolean} [hedge]
 * @property {boolean} [trim]
 * @property {string} [persona]
 * @property {Mode} [mode]
 * @property {string} [journal] the name under which the engine keeps the generation, for `resume`
 */

/** @typedef {{promptTokens: number, completionTokens: number, totalTokens: number, estimated?: boolean}} Usage */
/** @typedef {{ttftMs: number|null, totalMs: number, prefillTps: number|null, decodeTps: number|null}} Timings ms, tokens/s */
/**
 * A change of provider, and the model that was left where one had been asked.
 * @typedef {{from: Provider, to: Provider, error: WireError, requestId: string, model?: string, [more: string]: unknown}} Change
 */

/**
 * Who wrote what, from which UTF-16 unit on; `text` only of what was struck.
 * @typedef {{provider: Provider, model: string|null, start: number, cause: string, struck: boolean, text?: string}} Part
 */

/**
 * What left the browser.
 * @typedef {{requestId: string, provider: Provider, model: string|null, bytes: number, at: number, cause: string,
 *   redacted?: Record<string, number>}} Receipt
 */

/**
 * @typedef {object} Completion
 * @property {string} text
 * @property {Provider} provider who finished it
 * @property {string} model
 * @property {Usage} usage
 * @property {string} finishReason
 * @property {Timings} timings
 * @property {Change|null} fallback
 * @property {(Change & {cause: string, atChars: number})|null} handover
 * @property {number|null} cost US dollars; null where nobody stated it
 * @property {Receipt|null} egress
 * @property {string} requestId
 * @property {number} segments
 * @property {Part[]} parts
 * @property {number} trimmed how many of the oldest messages were left out
 * @property {number} elapsed ms, for the blueprint's callers
 * @property {number} tokensPerSecond likewise
 * @property {object[]} [toolCalls]
 * @property {string} [decision] auto mode's, in a line
 * @property {object} [hedge]
 * @property {string} [note]
 */

/**
 * @typedef {object} LocalStatus
 * @property {'unsupported'|'unloaded'|'loading'|'ready'|'error'} state
 * @property {boolean} ready
 * @property {'webgpu'|'wasm'} runtime
 * @property {string} webgpu
 * @property {string} reason
 * @property {string|null} model
 * @property {WireError|null} error
 * @property {object|null} gpu
 * @property {string|null} profile
 * @property {{model: string, instead: string, error: WireError}|null} insteadOf
 * @property {number} progress
 * @property {number} loadedBytes
 * @property {number} totalBytes
 * @property {number|null} etaS
 * @property {string} text
 * @property {boolean} shared whether it is another tab's doing
 * @property {string} [phase] of a load
 * @property {string} [step]
 * @property {number|null} [bytesPerSecond]
 */

/**
 * @typedef {object} Status
 * @property {Mode} mode
 * @property {Mode} preferredMode
 * @property {boolean} pending
 * @property {boolean} localAvailable
 * @property {boolean} localReady
 * @property {string|null} localModel
 * @property {boolean} cloudAvailable
 * @property {string} cloudReason
 * @property {Record<Provider, string>} breaker
 * @property {number} active requests under way
 * @property {Record<Provider, boolean>} sees whether the local model takes pictures, and whether one of the cloud does or may
 * @property {LocalStatus} local
 */

/**
 * @typedef {object} RuntimeInfo
 * @property {'webgpu'|'wasm'} runtime
 * @property {string} wish
 * @property {string} why
 * @property {string} webgpu
 * @property {string|null} reason
 * @property {string|null} remedy
 * @property {string|null} code of the reason
 * @property {Record<string, unknown>} args of its sentence
 * @property {object|null} gpu
 * @property {Record<string, number>} limits
 * @property {string[]} features
 * @property {string|null} profile
 * @property {string} wasm
 * @property {number|null} threads
 * @property {object|null} storage
 */

/**
 * Sums of one side, or of one model; times in ms, cost in US dollars, `unpriced` answers whose cost nobody stated.
 * @typedef {object} Totals
 * @property {number} requests
 * @property {number} tokens
 * @property {number} promptTokens
 * @property {number} completionTokens
 * @property {number} errors
 * @property {number} stopped
 * @property {number} fallbacks requests that another had to take over
 * @property {number} totalTime
 * @property {number} averageTime
 * @property {number|null} averageTtft
 * @property {number|null} averagePrefillTps
 * @property {number|null} averageDecodeTps
 * @property {number} cost
 * @property {number} unpriced
 */

/**
 * @typedef {object} UsageStats
 * @property {Totals} local
 * @property {Totals} cloud
 * @property {(Totals & {provider: Provider, model: string})[]} models
 * @property {Change[]} fallbacks newest first, 20 of them
 * @property {Change[]} handovers
 * @property {number} fallbackCount
 * @property {number} handoverCount
 * @property {number} refusals what the egress gate let nobody see
 * @property {{name: string, total: object, models: object[]}} month
 * @property {Budget} budget
 * @property {Record<Provider, {limit: number|null, asked: number}>} rateLimits
 * @property {{from: Mode, to: Mode, timestamp: number, manual: boolean}[]} switchHistory
 */

/**
 * @typedef {object} AutoConfig
 * @property {boolean} enabled
 * @property {boolean} fallbackToCloud
 * @property {boolean} preferLocal
 * @property {Mode[]} modes
 * @property {Record<'speed'|'cost'|'privacy'|'quality', number>} weights
 * @property {Provider[]} priority
 * @property {string[]} upstreams
 * @property {Record<string, number>} quality
 * @property {number} maxWaitS
 * @property {number|null} budget
 * @property {{first: Provider, reason: string}|null} lastDecision
 */

/**
 * @typedef {object} Estimate
 * @property {{promptTokens: number, completionTokens: number, totalTokens: number}} tokens
 * @property {string} currency
 * @property {object} local
 * @property {object} cloud
 * @property {number|null} saving
 */

/**
 * US dollars a month, and for this session.
 * @typedef {object} Budget
 * @property {{limit: number|null, spent: number, state: string}} month
 * @property {{limit: number|null, spent: number, state: string}} session
 */

/**
 * @typedef {object} Recovery
 * @property {'continue'|'restart'|'stop'} handover
 * @property {boolean} hedge
 * @property {boolean} trim
 * @property {boolean} makeRoom whether models used longest ago may be deleted when the browser has no room for another
 */

/**
 * @typedef {object} Persona
 * @property {Mode|null} mode
 * @property {string|null} model
 * @property {boolean} private
 * @property {string|null} egress
 * @property {string|null} system
 * @property {Options} options
 */

/** @typedef {{success: false, error: WireError}} Failed */
/** @typedef {true|Failed} Loaded */

/**
 * @typedef {object} HybridApi
 * @property {(mode: Mode, manual?: boolean) => Promise<boolean>} setMode
 * @property {() => Promise<Mode>} getMode
 * @property {() => Promise<boolean>} isLocalAvailable
 * @property {(messages: ChatMessage[], options?: Options) => Promise<Completion>} complete
 * @property {(messages: ChatMessage[], options?: Options) => Promise<Completion>} completeLocal
 * @property {(messages: ChatMessage[], options?: Options) => Promise<Completion>} completeCloud
 * @property {(prompt: string, options?: Options) => Promise<Completion>} generateWithModel
 * @property {(messages: ChatMessage[], options?: Options) => AsyncIterable<Chunk>} stream
 * @property {(messages: ChatMessage[], prefix: string, options?: Options, on?: Provider) => AsyncIterable<Chunk>} resume
 * @property {(requestId?: string) => Promise<boolean>} abort
 * @property {() => Promise<Status>} getStatus
 * @property {() => Promise<AutoConfig>} getAutoSwitchConfig
 * @property {(change: Partial<AutoConfig>) => Promise<AutoConfig>} setAutoSwitchConfig
 * @property {() => Promise<UsageStats>} getUsageStats
 * @property {() => Promise<string>} getEgressPolicy
 * @property {(policy: string) => Promise<boolean>} setEgressPolicy
 * @property {() => Promise<Receipt[]>} getEgressLog
 * @property {(requestId: string, allow: boolean|'redact') => Promise<boolean>} answerEgress
 * @property {() => Promise<Recovery>} getRecovery
 * @property {(change: Partial<Recovery>) => Promise<Recovery>} setRecovery
 * @property {() => Promise<{current: string|null, personas: Record<string, Persona>}>} listPersonas
 * @property {(name: string, persona: Partial<Persona>) => Promise<Persona>} savePersona
 * @property {(name?: string|null) => Promise<boolean>} setPersona
 * @property {(name: string) => Promise<boolean>} deletePersona
 * @property {(messages: ChatMessage[], options?: Options) => Promise<Estimate>} estimate
 * @property {() => Promise<Budget>} getBudget
 * @property {(change: {month?: number|null, session?: number|null}) => Promise<Budget>} setBudget
 * @property {(change: {local?: number|null, cloud?: number|null}) => Promise<Record<Provider, number|null>>} setRateLimits
 * @property {() => Promise<string>} report
 * @property {() => Promise<object[]>} tools
 * @property {(name: string, args?: object) => Promise<{success: boolean, [more: string]: unknown}>} callTool
 */

/**
 * @typedef {object} LocalApi
 * @property {(modelId?: string) => Promise<Loaded>} init
 * @property {(modelId?: string) => Promise<Loaded>} switchModel
 * @property {() => Promise<boolean>} unload
 * @property {() => Promise<boolean>} cancelLoad
 * @property {(modelId: string) => Promise<boolean>} delete
 * @property {() => Promise<boolean>} isReady
 * @property {() => Promise<LocalStatus>} getStatus
 * @property {() => Promise<RuntimeInfo>} getRuntimeInfo
 * @property {(wish: 'auto'|'webgpu'|'wasm') => Promise<boolean>} setRuntime
 * @property {() => Promise<Record<string, unknown>[]>} getAvailableModels the index's own names, with `fits`, `cached`, `loaded`
 */

export {};
