/**
 * Every message that crosses a thread of the page, in one file.
 *
 *     shell (main thread)  <->  python.worker.js       ToPython / FromPython
 *     shell (main thread)  ->   engine/engine.worker.js ToEngine / FromEngine
 *     python.worker.js     <->  engine worker           over the MessageChannel, engine/client.js owns that protocol
 *
 * Import the types:  `/** @import {ToPython, FromPython} from './protocol.js' *\/`
 *
 * Rules. Field names are camelCase here and snake_case in Python; webapp/page.py converts. Each message is a plain
 * object with a `kind`; an unknown kind is ignored with a console warning, so that either side can grow first.
 * Messages from the Python worker may come as the object or as its JSON text (`host.post(json)`).
 * Order is that of postMessage: deltas of a message come after its `message` op and before its `finish`.
 */

/** @typedef {'local'|'cloud'} Provider */
/** @typedef {'local'|'cloud'|'auto'|'local-only'|'cloud-only'} Mode */
/** @typedef {'streaming'|'done'|'stopped'|'error'} MessageState */

/**
 * An error on the wire. `code` is a stable lower-case word for programs; `message` is for the person and names the remedy.
 * @typedef {{name: string, message: string, code?: string|null, phase?: string, [more: string]: unknown}} WireError
 */

/**
 * What the preflight found (preflight.js). `reason` and `remedy` are English sentences, set when `webgpu` is 'no'.
 * @typedef {object} Preflight
 * @property {'yes'|'no'} webgpu whether WebLLM can run here
 * @property {string|null} reason
 * @property {string|null} remedy
 * @property {string|null} [code] what both are called in words.reasons
 * @property {Record<string, string|number>} [args] what they are about
 * @property {string|null} [wasmCode] the same for `wasmReason`
 * @property {'yes'|'no'} [wasm] whether llama.cpp can run here in WebAssembly
 * @property {string|null} [wasmReason] a sentence, set when `wasm` is 'no'
 * @property {boolean} [memory64] WebAssembly has 64-bit memory; without it llama.cpp's older, slower build is used
 * @property {'gpu'|'subgroups'|'software'|null} profile which of a model's libraries fits the adapter
 * @property {{vendor?: string, architecture?: string, description?: string, fallback?: boolean, [more: string]: unknown}|null} [adapter]
 * @property {string[]} [features] the adapter's features, e.g. 'shader-f16'
 * @property {Record<string, number>} [limits] the adapter's limits, bytes and counts
 * @property {{quota: number, usage: number, persisted: boolean}|null} [storage] bytes
 * @property {boolean} [isolated] crossOriginIsolated
 * @property {boolean} [sharedMemory] SharedArrayBuffer is there
 */

/**
 * @typedef {object} BootConfig
 * @property {string} origin `location.origin`
 * @property {string} assets absolute path of the bundle, `/assets/<hash>`
 * @property {'local'|'main'} place which document this is: `/local`, whose policy lets nothing out, or `/`
 * @property {{mode?: string, model?: string, load?: string, runtime?: string, faults?: string}} query from the page's query string
 * @property {Record<string, unknown>} stored every value kept by `store` messages, by key without the `hybr:` prefix
 */

/** OpenAI-style message. @typedef {{role: string, content: unknown, [more: string]: unknown}} ChatMessage */

/**
 * What happened in the shell's own controls. A `temporary` conversation is never stored. `edit` of a person's message is a sibling that
 * is answered, of an answer a sibling with the new text; `regenerate` is a sibling of an answer, or an answer to a message; `branch`
 * shows a sibling; `continue` goes on with an answer that is cut; `delete` takes out one message (what hangs under it goes up) or a
 * branch, and brings a toast with an `undo` token.
 * @typedef {{kind: 'ui', event: 'send', text: string, attachments?: Attachment[]}
 *   | {kind: 'ui', event: 'stop'}
 *   | {kind: 'ui', event: 'new-conversation', temporary?: boolean}
 *   | {kind: 'ui', event: 'open-conversation', id: string, node?: string, find?: string}
 *   | {kind: 'ui', event: 'edit', id: string, text: string}
 *   | {kind: 'ui', event: 'regenerate', id: string}
 *   | {kind: 'ui', event: 'branch', id: string, step: -1|1}
 *   | {kind: 'ui', event: 'continue', id: string}
 *   | {kind: 'ui', event: 'delete', id: string, what: 'message'|'branch'}
 *   | {kind: 'ui', event: 'undo', token: string}
 *   | {kind: 'ui', event: 'set-mode', mode: string}
 *   | {kind: 'ui', event: 'resume', id: string, on: Provider}
 *   | {kind: 'ui', event: 'keep', id: string}
 *   | {kind: 'ui', event: 'leave-local'}} UiMessage
 */

/**
 * What hangs on a message. `data` of an image is a data URL (or its base64), of a text the text itself.
 * @typedef {{kind: 'image'|'text', name: string, mime: string, data: string}} Attachment
 *
 * The open conversation; `stored`: it is on the shelf (not so while it is empty, nor ever where it is temporary).
 * @typedef {{id: string, title: string, temporary: boolean, stored: boolean}} OpenConversation
 */

/**
 * The shelf (shelf.js). Python asks by `shelf`, and is told what others (other tabs: by 'tab', the sidebar: by 'page') change in the
 * conversation that is open; rows are the shelf's own.
 * @typedef {{kind: 'shelf', id: string, op: 'read', args: [string]} | {kind: 'shelf', id: string, op: 'write', args: [object]}} ShelfRequest
 * @typedef {{kind: 'shelf-result', id: string, value: unknown} | {kind: 'shelf-error', id: string, error: WireError}
 *   | {kind: 'shelf-changed', conversation: string, change: 'written'|'removed', by: 'tab'|'page', row?: object, nodes?: object[],
 *   drop?: string[]}} ShelfAnswer
 */

/**
 * A conversation as it crosses documents, and its beginning as it crosses crashes: rows of the shelf.
 * @typedef {{conversation: {id: string, [more: string]: unknown}, nodes: Record<string, unknown>[], temporary: boolean}} Conversation
 *
 * What is needed to go on with an answer that was cut off. `conversation` has its row and the message that was answered: the rest is
 * on the shelf. `closed`: not in the cloud. `text`, `provider` and `segment` are where it began; the journal adds the deltas that
 * were shown since.
 * @typedef {{conversation: Conversation, options: Record<string, unknown>, text: string, provider: Provider|null, segment: number,
 *   closed: boolean}} JournalRecord
 * @typedef {{kind: 'journal', op: 'begin', id: string, record: JournalRecord} | {kind: 'journal', op: 'end', id: string}} JournalMessage
 *
 * Shell -> Python at start, if there is anything: what another document carried over, the conversation in the address bar, an answer
 * that was cut off.
 * @typedef {{kind: 'restore', conversation: Conversation} | {kind: 'restore', open: string}
 *   | {kind: 'restore', id: string, record: JournalRecord}} RestoreMessage
 */

/**
 * Reverse RPC: a caller gave `Hybrid.init(cloudClient)` an object of its own. `init`'s wire argument is then
 * `{kind: 'caller'}` (null when the gateway is meant), and Python posts `cloud-call`; the shell answers with one
 * `cloud-result` (what the client returned; at least `{text}`) or one `cloud-error`. After `cloud-abort` nothing follows.
 * @typedef {{kind: 'cloud-call', id: string, messages: ChatMessage[], options: Record<string, unknown>}
 *   | {kind: 'cloud-abort', id: string}} CloudRequest
 * @typedef {{kind: 'cloud-result', id: string, value: {text: string, model?: string, usage?: object, [more: string]: unknown}}
 *   | {kind: 'cloud-error', id: string, error: WireError}} CloudAnswer
 */

/**
 * RPC of the facades. `module` is a ModuleLoader name, `method` a name of its `.api` (or `init`). A method that streams
 * answers with `rpc-chunk`s, then `rpc-result` (value null); any other with one `rpc-result` or `rpc-error`.
 * After `rpc-cancel` (an AbortSignal, or `return()` of an iterator) Python stops the work; it may still answer, which is ignored.
 * Options on the wire carry no `signal`; `requestId` is always there for complete*, stream and generateWithModel.
 * @typedef {{kind: 'rpc', id: string, module: string, method: string, args: unknown[]}
 *   | {kind: 'rpc-cancel', id: string}} RpcRequest
 * @typedef {{kind: 'rpc-result', id: string, value: unknown}
 *   | {kind: 'rpc-error', id: string, error: WireError}
 *   | {kind: 'rpc-chunk', id: string, chunk: WireChunk}} RpcAnswer
 */

/**
 * A chunk on the wire: no `text`, the JavaScript side accumulates it. The last one is `done: true` and has the rest.
 * A chunk with `restart` begins the answer anew: its delta is all the text there is, and what was shown before is in the last
 * chunk's `parts`.
 * @typedef {{delta: string, done: boolean, provider: Provider, segment: number, restart?: boolean, usage?: object, timings?: object,
 *   cost?: unknown, [more: string]: unknown}} WireChunk
 * @typedef {WireChunk & {text: string}} Chunk
 */

/**
 * Figures under a reply: the camelCase of Python's Completion.
 * @typedef {object} Stats
 * @property {{promptTokens?: number, completionTokens?: number, totalTokens?: number}} [usage]
 * @property {{ttftMs?: number|null, totalMs?: number|null, prefillTps?: number|null, decodeTps?: number|null}} [timings]
 * @property {number|{amount?: number, currency?: string}|null} [cost]
 * @property {string|null} [finishReason]
 * @property {boolean|object|null} [fallback]
 * @property {string} [decision] why auto mode chose who answered
 * @property {string} [note] how the model was asked otherwise: with less of the conversation, with a simpler schema
 * @property {Provider} [provider]
 * @property {string} [model]
 */

/**
 * What the message view draws. `open` shows a whole branch at once, in place of what there is; each message is then whole, with
 * all that `finish` would bring. `segments`: who wrote from where on, in UTF-16 units; `segment` is the number of the last one.
 * `siblings`: which of its siblings the message is, from 0, and how many they are.
 * @typedef {{index: number, count: number}} Siblings
 * @typedef {{type: 'message', id: string, role: 'user'|'assistant'|'system', text: string, state: MessageState, provider?: Provider|null,
 *   model?: string|null, segment?: number, segments?: {provider: Provider, atChars: number}[], siblings?: Siblings,
 *   attachments?: Attachment[], stats?: Stats|null, error?: WireError|null, edited?: boolean,
 *   thought?: string}} MessageOp
 * @typedef {{type: 'open', conversation: OpenConversation, messages: MessageOp[]}} OpenOp
 * @typedef {{type: 'conversation', conversation: OpenConversation}} ConversationOp the open one has another title, or is stored now
 * @typedef {{type: 'siblings', id: string, index: number, count: number}} SiblingsOp
 * @typedef {{type: 'remove', ids: string[]}} RemoveOp
 * @typedef {{type: 'reveal', id: string, find?: string|null}} RevealOp scrolls to a message, and marks the words found there
 * @typedef {{type: 'delta', id: string, delta: string, provider?: Provider|null, segment?: number, restart?: boolean,
 *   thought?: string}} DeltaOp
 *   `restart` strikes what was shown: the answer begins anew with this delta; `thought` is what the model thought, told beside the text
 * @typedef {{type: 'interrupted', id: string, cloud: boolean}} InterruptedOp the person is asked what becomes of a cut answer; `cloud`:
 *   it may be finished there
 * @typedef {{type: 'finish', id: string, state: 'done'|'stopped'|'error', provider?: Provider|null, model?: string|null,
 *   stats?: Stats|null, error?: WireError|null}} FinishOp
 * @typedef {{type: 'toast', toast: string, text?: string, say?: string, args?: Record<string, string|number>,
 *   undo?: string}} ToastOp kind of toast:
 *   'fallback', 'handover', 'error', 'warning', 'info' ...; `say` names a sentence of the catalogue, `text` is for what has none; `undo` is
 *   the token of a button that takes back what was done
 * @typedef {MessageOp | DeltaOp | FinishOp | InterruptedOp | ToastOp | OpenOp | ConversationOp | SiblingsOp | RemoveOp | RevealOp | {type: 'clear'} | {type: 'busy', value: boolean}} ViewOp
 */

/**
 * Panel's own sub-protocol, passed through unread. Its main-thread half is the module js/panel.js (the bundle's), which the shell
 * imports when the first `panel` message comes:
 *     export function connect({root, assets, post}) -> {receive(message)}
 * root: `<aside id="panel-root">`; assets: BootConfig.assets; post(message: PanelMessage, transfer?) sends to the Python worker.
 * @typedef {{kind: 'panel', [more: string]: any}} PanelMessage
 * @typedef {{receive(message: PanelMessage): void}} PanelSide
 * @typedef {{root: HTMLElement, assets: string, post: (message: PanelMessage, transfer?: Transferable[]) => void}} PanelHost
 */

/**
 * Shell -> Python worker. `boot` is the first; `engine-port` follows each restart of the engine worker. `port` is null where the engine
 * is another tab's (tabs.js).
 * `stored`: names of a stored object that another tab has changed, or that an addition has, with their new values.
 * `memory`: bytes in use, 0 where the browser does not tell.
 * `port` leads to the engine worker, `lock` names the Web Lock that it holds for life; `life` names the Python worker's own.
 * @typedef {{kind: 'boot', config: BootConfig, port: MessagePort|null, lock: string, life: string}
 *   | {kind: 'engine-port', port: MessagePort|null, lock: string}
 *   | {kind: 'preflight', result: Preflight}
 *   | {kind: 'online', value: boolean}
 *   | {kind: 'memory', page: number, python: number}
 *   | {kind: 'visibility', hidden: boolean, frozenMs: number}
 *   | {kind: 'stored', key: string, value: Record<string, unknown>}
 *   | RestoreMessage
 *   | ShelfAnswer
 *   | UiMessage | RpcRequest | CloudAnswer | PanelMessage} ToPython
 */

/**
 * Python worker -> shell. `store` without `how` writes the value; else its names are laid over the stored object's, or its numbers
 * added to them, as they are by then: other tabs write too.
 * `alive` says that it holds its `life` lock: from then on the shell notices its death. `fraction` is 0..1 or null when it is not known.
 * @typedef {{kind: 'alive'}
 *   | {kind: 'status', phase: string, step: string, fraction?: number|null}
 *   | {kind: 'ready', stage: 'core'|'ui'}
 *   | {kind: 'event', name: string, detail: Record<string, unknown>}
 *   | {kind: 'view', op: ViewOp}
 *   | {kind: 'engine', op: 'restart'}
 *   | {kind: 'move', to: 'local'|'main', conversation: Conversation}
 *   | JournalMessage
 *   | ShelfRequest
 *   | {kind: 'store', key: string, value: unknown, how?: 'assign'|'add'}
 *   | {kind: 'fatal', error: WireError}
 *   | RpcAnswer | CloudRequest | PanelMessage} FromPython
 */

/**
 * Shell -> engine worker, its only message from the shell: everything else goes through `port`.
 * @typedef {{kind: 'boot', config: {origin: string, assets: string}, port: MessagePort, lock: string}} ToEngine
 */

/** Engine worker -> shell: only what cannot go through the port. @typedef {{kind: 'fatal', error: WireError}} FromEngine */

/** Events that the page dispatches, by the names the blueprint gives them. */
export const EVENTS = Object.freeze([
  'hybrid-llm:mode-changed', 'hybrid-llm:fallback', 'hybrid-llm:handover', 'hybrid-llm:hedge', 'hybrid-llm:complete',
  'hybrid-llm:stream-chunk', 'hybrid-llm:stream-complete', 'hybrid-llm:stream-error',
  'local-llm:loading', 'local-llm:progress', 'local-llm:ready', 'local-llm:error', 'local-llm:unloaded', 'local-llm:replaced', 'local-llm:evicted',
  'cost:updated', 'cost:budget', 'rate-limit:exceeded', 'egress:asked', 'egress:sent', 'egress:refused',
]);

/** Prefix of every localStorage key of ours. */
export const STORE_PREFIX = 'hybr:';
