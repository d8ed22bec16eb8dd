/**
 * One shape for every failure of the engine: an Error with `name`, `message` and `phase`.
 *
 * WebLLM throws Errors, bare strings (through its own worker handler), DOMExceptions and the odd number from wasm; Pyodide never
 * completes a promise that was rejected with anything but an Error. So nothing leaves this folder unconverted.
 */

/** @import {EngineFailure, Phase} from './wire.js' */

/** What WebLLM throws about the caller's own request (facts/webllm.md): never a fault of the model or the device. */
const CALLER = new Set([
  'RangeError', 'MinValueError', 'NonNegativeError', 'DependencyError', 'InvalidNumberStringError', 'SeedTypeError',
  'StreamingCountError', 'InvalidStreamOptionsError', 'MessageOrderError', 'SystemMessageOrderError', 'UnsupportedRoleError',
  'ContentTypeError', 'UnsupportedFieldsError', 'InvalidToolChoiceError', 'FunctionNotFoundError', 'UnsupportedToolTypeError',
  'UserMessageContentErrorForNonVLM', 'UnsupportedContentPartError', 'UnsupportedImageURLError', 'UnsupportedDetailError',
  'MultipleTextContentError', 'CustomSystemPromptError', 'CustomResponseFormatError', 'UnsupportedModelIdError', 'GrammarMatcherInitError',
  'InvalidResponseFormatError', 'InvalidResponseFormatGrammarError', 'InvalidResponseFormatStructuralTagError',
]);

/** What has to do with the adapter itself, whenever it shows. */
const PROBE =
  /^(WebGPUNotAvailableError|WebGPUNotFoundError)$|^(Unable to find a compatible GPU|Cannot find WebGPU|Cannot initialize runtime because)/;

/** An Error with the phase in which it happened, and details that programs may read. */
export class EngineError extends Error {
  /**
   * @param {string} name
   * @param {string} message for the person: what happened and what to do
   * @param {Phase} phase
   * @param {Record<string, unknown>} [details]
   */
  constructor(name, message, phase, details = {}) {
    super(message);
    Object.assign(this, details);
    this.name = name;
    this.phase = phase;
    this.details = details;
  }
}

/** @param {Phase} phase @param {string} what @returns {EngineError} the error of a stop that was asked for */
export const aborted = (phase, what) => new EngineError('AbortError', what, phase);

/** @param {unknown} cause @returns {boolean} */
export const isAbort = (cause) => cause instanceof Error && cause.name === 'AbortError';

/**
 * Name and message of anything that was thrown. A string such as "DeviceLostError: gone" is taken apart.
 * @param {unknown} cause @returns {{name: string, message: string}}
 */
function describe(cause) {
  if (cause instanceof Error || (typeof DOMException !== 'undefined' && cause instanceof DOMException))
    return {name: cause.name || 'Error', message: cause.message || String(cause)};
  if (cause && typeof cause === 'object' && 'message' in cause)
    return {name: 'name' in cause && cause.name ? String(cause.name) : 'Error', message: String(cause.message)};
  const text = cause === undefined ? 'no reason was given' : String(cause);
  const parts = /^([A-Za-z]*(?:Error|Exception)): ([\s\S]*)$/.exec(text);
  return parts ? {name: parts[1] ?? 'Error', message: parts[2] ?? text} : {name: 'Error', message: text};
}

/**
 * Whatever was thrown, as an EngineError. An EngineError keeps its own phase.
 * @param {unknown} cause @param {Phase} phase where it was caught @returns {EngineError}
 */
export function toError(cause, phase) {
  if (cause instanceof EngineError) return cause;
  const {name, message} = describe(cause);
  return new EngineError(name, message, phaseOf(name, message, phase));
}

/** @param {string} name @param {string} message @param {Phase} caught @returns {Phase} */
function phaseOf(name, message, caught) {
  if (PROBE.test(name) || PROBE.test(message)) return 'probe';
  return CALLER.has(name) && caught === 'prefill' ? 'validate' : caught;
}

/** @param {unknown} cause @param {Phase} phase @returns {EngineFailure} what crosses the port */
export function toWire(cause, phase) {
  const error = toError(cause, phase);
  return {...error.details, name: error.name, message: error.message, phase: error.phase};
}

/** @param {unknown} failure what came over the port @returns {EngineError} */
export function fromWire(failure) {
  if (!failure || typeof failure !== 'object') return toError(failure, 'worker');
  const {name, message, phase, ...details} = /** @type {Record<string, any>} */ (failure);
  return new EngineError(name || 'Error', message || 'no reason was given', phase || 'worker', details);
}
