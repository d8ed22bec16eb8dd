/**
 * What `ModuleLoader.getModule` hands out: the blueprint's interface over RPC. Every method may be awaited; `stream` is an
 * async iterable. `signal` and `requestId` in the options are looked after here, the rest goes to Python as it is. interface.js has
 * the types.
 */

import { coded } from './errors.js';

/** @import {Rpc} from './rpc.js' */
/** @import {CloudCaller} from './cloud.js' */
/** @import {HybridApi, LocalApi, Options} from './interface.js' */
/** @import {ChatMessage} from './protocol.js' */

const HYBRID = 'HybridLLMProvider';
const LOCAL = 'LocalLLM';
const PLAIN = [
  'setMode', 'getMode', 'isLocalAvailable', 'abort', 'getStatus', 'getAutoSwitchConfig', 'setAutoSwitchConfig', 'getUsageStats',
  'getEgressPolicy', 'setEgressPolicy', 'getEgressLog', 'answerEgress', 'getRecovery', 'setRecovery', 'listPersonas', 'savePersona',
  'setPersona', 'deletePersona', 'estimate', 'getBudget', 'setBudget', 'setRateLimits', 'report', 'tools', 'callTool',
];
const REQUESTS = ['complete', 'completeLocal', 'completeCloud', 'generateWithModel'];
const LOCAL_METHODS = [
  'init', 'getAvailableModels', 'getStatus', 'switchModel', 'unload', 'cancelLoad', 'delete', 'isReady', 'getRuntimeInfo',
  'setRuntime',
];

/**
 * @param {any} options
 * @returns {{options: Record<string, unknown>, signal: AbortSignal|null}}
 */
function split(options) {
  if (typeof (options ?? {}) !== 'object' || Array.isArray(options)) {
    throw coded('OptionError', 'options must be an object.', 'invalid_option', { field: 'options' });
  }
  const { signal = null, requestId, ...rest } = options ?? {};
  if (signal !== null && !(signal instanceof AbortSignal)) {
    throw coded('OptionError', 'options.signal must be an AbortSignal.', 'invalid_option', { field: 'options.signal' });
  }
  if (signal?.aborted) {
    throw coded('OptionError', 'options.signal has expired already: give each request one that has not.', 'invalid_option', { field: 'options.signal' });
  }
  return { options: { requestId: requestId ?? crypto.randomUUID(), ...rest }, signal };
}

/**
 * @param {Rpc} rpc
 * @param {string} module
 * @param {string[]} names
 * @returns {Record<string, (...args: any[]) => any>}
 */
function methods(rpc, module, names) {
  return Object.fromEntries(names.map((name) => [name, (/** @type {any[]} */ ...args) => rpc.call(module, name, args)]));
}

/**
 * @param {Rpc} rpc
 * @param {CloudCaller} cloud where a caller's own cloud client is kept
 * @returns {{api: HybridApi, init: (client?: object|null) => Promise<boolean>}}
 */
export function hybridFacade(rpc, cloud) {
  const api = methods(rpc, HYBRID, PLAIN);
  for (const name of REQUESTS) {
    api[name] = async (input, given) => {
      const { options, signal } = split(given);
      return rpc.call(HYBRID, name, [input, options], signal);
    };
  }
  api.stream = (messages, given) => {
    const { options, signal } = split(given);
    return rpc.stream(HYBRID, 'stream', [messages, options], signal);
  };
  api.resume = (messages, prefix, given, on = 'local') => {
    const { options, signal } = split(given);
    return rpc.stream(HYBRID, 'resume', [messages, prefix, options, on], signal);
  };
  return {
    api: /** @type {any} */ (api),
    /** @param {object|null} [client] a cloud client of the caller's own; without one the server's gateway is used */
    init: async (client = null) => rpc.call(HYBRID, 'init', [cloud.register(client)]),
  };
}

/** @param {Rpc} rpc @returns {{api: LocalApi, init: LocalApi['init']}} */
export function localFacade(rpc) {
  const api = /** @type {any} */ (methods(rpc, LOCAL, LOCAL_METHODS));
  return { api, init: api.init };
}

/**
 * The built-in cloud client: the server's gateway. `Hybrid.init(cloudClient)` with this one means the gateway itself.
 * @param {ReturnType<typeof hybridFacade>} hybrid
 */
export function gatewayFacade(hybrid) {
  const api = {
    /** @param {ChatMessage[]} messages @param {Options} [options] */
    complete: (messages, options) => hybrid.api.completeCloud(messages, options),
  };
  return { api, ...api };
}
