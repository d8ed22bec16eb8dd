/** Every sentence of the views, in one catalogue, so that a second language is one more object. */

export const words = {
  whoAnswers: 'Who answers',
  modes: /** @type {Record<string, string>} */ ({
    local: 'This browser',
    cloud: 'Server',
    auto: 'Automatic',
    'local-only': 'Browser only',
    'cloud-only': 'Server only',
  }),
  leaves: /** @type {Record<string, string>} */ ({
    local: 'Your messages stay in this browser. Should its model fail, the server answers instead, and the reply says so.',
    cloud: 'Your messages go to this page’s server, and to the model it has chosen.',
    auto: 'Each message is answered here or by the server, whichever suits it better; the reply says which.',
    'local-only': 'Nothing leaves this browser.',
    'cloud-only': 'Your messages go to this page’s server.',
  }),
  closed: 'Nothing leaves this browser: it blocks every way from this page to the server’s models. Another choice leaves this page.',
  mayLeave: 'To the server, this conversation may go',
  egress: /** @type {Record<string, string>} */ ({
    allow: 'as it is',
    redact: 'without addresses, numbers and keys',
    ask: 'when I say so, each time',
    never: 'never',
  }),
  pendingLoading: (/** @type {string} */ name) => `The server answers until ${name || 'the model'} is ready; then your messages stay here.`,
  pendingLoad: 'The server answers until you load a model below; then your messages stay here.',
  noLocal: 'No model can run in this browser.',
  cloudAway: 'The server’s model cannot be reached now.',

  inThisBrowser: 'In this browser',
  states: /** @type {Record<string, string>} */ ({
    unsupported: 'Not possible here',
    unloaded: 'No model loaded',
    loading: 'Loading',
    ready: 'Ready',
    error: 'Failed',
  }),
  checking: 'Looking at this browser’s graphics',
  unloadedHint: 'Choose a model below. It is downloaded once and stays in this browser.',
  software: 'No graphics processor: this runs on the main processor, slowly.',
  runsOn: 'Runs on',
  wishes: /** @type {Record<string, string>} */ ({ auto: 'Automatic', webgpu: 'Graphics (WebGPU)', wasm: 'Processor (WebAssembly)' }),
  why: /** @type {Record<string, string>} */ ({
    no_webgpu: 'No WebGPU here, so the model runs on the processor, more slowly.',
    failing: 'WebGPU failed here again and again, so the model runs on the processor.',
    faster: 'There is no graphics processor here, and on the main one WebAssembly was measured to be faster than WebGPU.',
    wished: 'As you chose.',
  }),
  threads: (/** @type {string} */ name, /** @type {number} */ n) => (n > 1 ? `${name}, ${n} threads` : name),
  runtimes: /** @type {Record<string, string>} */ ({ webgpu: 'WebGPU', wasm: 'WebAssembly' }),
  cancel: 'Cancel',
  loadProgress: 'Loading the model',
  left: (/** @type {string} */ time) => `${time} left`,
  of: (/** @type {string} */ done, /** @type {string} */ all) => `${done} of ${all}`,

  models: 'Models',
  noModels: 'The server lists no models yet.',
  tests: 'For tests',
  load: 'Load',
  loadIt: (/** @type {string} */ size) => `Download and load, ${size}`,
  loading: 'Loading',
  loaded: 'Loaded',
  unload: 'Unload',
  remove: (/** @type {string} */ size) => `Delete, frees ${size}`,
  cached: 'Downloaded',
  building: 'The server is building this model',
  missing: (/** @type {string} */ id) => `Not built yet. On the server: hybr models build ${id}`,
  failed: (/** @type {string} */ why) => `The server could not build it. ${why}`,
  tokens: (/** @type {number} */ n) => `context ${n.toLocaleString()}`,

  egressLog: 'What left this browser',
  egressNone: 'Nothing was sent to a model on the server.',
  egressColumns: ['When', 'Sent', 'Why'],
  causes: /** @type {Record<string, string>} */ ({
    mode: 'asked',
    fallback: 'fallback',
    handover: 'handover',
    restart: 'begun anew',
    hedge: 'beside a slow model',
    resume: 'finished there',
  }),
  redacted: (/** @type {number} */ n) => `${n} taken out`,

  usage: 'This session',
  columns: ['', 'Requests', 'Tokens', 'Average', 'Errors'],
  providers: { local: 'Browser', cloud: 'Server' },
  none: 'No requests yet.',
  fallbacks: (/** @type {number} */ n) => (n === 1 ? '1 fallback' : `${n} fallbacks`),
  fellBack: (/** @type {string} */ from, /** @type {string} */ to) => `${from} to ${to}`,
  byHand: 'by hand',
  byItself: 'by itself',
};

const UNITS = ['B', 'kB', 'MB', 'GB'];

/** @param {number} count @returns {string} bytes for people, decimal units */
export function bytes(count) {
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value.toFixed(unit > 0 && value < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** @param {number} seconds @returns {string} */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number|null|undefined} ms @returns {string} */
export const average = (ms) => (ms === null || ms === undefined ? '–' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
