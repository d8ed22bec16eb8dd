/**
 * Can WebLLM run here, and if not, what would change it, and can llama.cpp do without WebGPU? Asked before a byte of a model is downloaded.
 *
 * Runs in the shell (while Python boots) and in the engine worker (before each load). It never throws: whatever goes wrong is
 * an answer, `webgpu: 'no'`, with a reason and a remedy that a person can read. The floors are WebLLM 0.2.86's own.
 */

/** @import {Preflight} from './protocol.js' */

const MIB = 1 << 20;

/** What WebLLM demands of an adapter; below any of these it refuses to start. */
const FLOORS = Object.freeze({
  maxBufferSize: 256 * MIB,
  maxStorageBufferBindingSize: 128 * MIB,
  maxComputeWorkgroupStorageSize: 32 * 1024,
  maxStorageBuffersPerShaderStage: 10,
});

/** Limits worth knowing beside the floors: they decide which models and kernels fit. */
const ALSO = ['maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupSizeX', 'maxComputeWorkgroupsPerDimension'];

/** Adapters that compute on the CPU, by the names their drivers give themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b/i;

/** An adapter that has not come after this many ms will not come; a cold GPU process takes a few seconds. */
const PATIENCE_MS = 20_000;

/** @typedef {{reason: string, remedy: string, code: string, args?: Record<string, string|number>}} Blocker `code`: a key of words.reasons */

/**
 * The world that is asked; an argument so that tests can play any browser.
 * @typedef {object} World
 * @property {boolean} secure `isSecureContext`
 * @property {boolean} isolated `crossOriginIsolated`
 * @property {boolean} caches whether the Cache API is there
 * @property {Pick<GPU, 'requestAdapter'>|undefined} gpu
 * @property {Pick<StorageManager, 'estimate'|'persisted'>|undefined} storage
 */

/** @returns {World} this thread's */
const here = () => ({
  secure: globalThis.isSecureContext,
  isolated: globalThis.crossOriginIsolated === true,
  caches: typeof caches !== 'undefined',
  gpu: navigator.gpu,
  storage: navigator.storage,
});

/** @param {World} world @returns {Blocker|null} what rules WebGPU out before any adapter is asked */
function blockedBrowser({secure, gpu, caches: hasCaches}) {
  if (!secure)
    return {
      code: 'insecure',
      reason: 'This page was opened over plain http from another machine, where browsers switch WebGPU off.',
      remedy: 'Open it over https, or on the same machine as http://127.0.0.1 or http://localhost.',
    };
  if (!gpu)
    return {
      code: 'no_webgpu',
      reason: 'This browser has no WebGPU.',
      remedy:
        'Use Chrome or Edge 113, Safari 26, Firefox 141 or newer; on Linux, Chrome may want chrome://flags/#enable-unsafe-webgpu.',
    };
  if (!hasCaches)
    return {
      code: 'no_files',
      reason: 'This browser keeps no files for this page, so a model has nowhere to go.',
      remedy: 'Allow site data (cookies) for this address, or leave the private window.',
    };
  return null;
}

/** @returns {Blocker} */
const noAdapter = () => ({
  code: 'no_adapter',
  reason: 'The browser has WebGPU, but offers no graphics adapter: there is none, its driver is blocked, or hardware acceleration is off.',
  remedy: 'Switch hardware acceleration on in the browser\'s settings and update the graphics driver; chrome://gpu says what blocks it.',
});

/** @param {Record<string, number>} limits @returns {Blocker|null} the first floor the adapter is below */
export function lowLimit(limits) {
  for (const [name, floor] of Object.entries(FLOORS)) {
    const value = limits[name] ?? 0;
    if (value < floor)
      return {
        code: 'low_limit',
        args: {name, value, floor},
        reason: `The graphics adapter is too small: ${name} is ${value}, and models need at least ${floor}.`,
        remedy: 'A newer browser or graphics driver may raise the limit; otherwise another graphics adapter is needed.',
      };
  }
  return null;
}

/** @param {GPUAdapter} adapter @returns {{vendor: string, architecture: string, description: string, fallback: boolean}} */
function identify(adapter) {
  const info = /** @type {GPUAdapterInfo & {isFallbackAdapter?: boolean}} */ (adapter.info ?? {});
  const old = /** @type {{isFallbackAdapter?: boolean}} */ (adapter);
  return {
    vendor: info.vendor ?? '',
    architecture: info.architecture ?? '',
    description: info.description ?? '',
    fallback: Boolean(info.isFallbackAdapter ?? old.isFallbackAdapter),
  };
}

/**
 * WebLLM asks the device for `subgroups` wherever the adapter has them.
 * @param {{vendor: string, architecture: string, description: string, fallback: boolean}} gpu @param {GPUSupportedFeatures} features
 * @returns {'gpu'|'subgroups'|'software'}
 */
const profileOf = (gpu, features) => {
  if (gpu.fallback || SOFTWARE.test(`${gpu.vendor} ${gpu.architecture} ${gpu.description}`)) return 'software';
  return features.has('subgroups') ? 'subgroups' : 'gpu';
};

/** @param {World} world @returns {Promise<{quota: number, usage: number, persisted: boolean}|null>} bytes; null where it is not told */
async function storageOf({storage}) {
  try {
    const {quota = 0, usage = 0} = (await storage?.estimate()) ?? {};
    return {quota, usage, persisted: (await storage?.persisted()) ?? false};
  } catch {
    return null; // an opaque origin or a private window may refuse to say
  }
}

/** @param {World} world @returns {Promise<GPUAdapter|null>} */
async function adapterOf({gpu}) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, null);
  });
  try {
    return /** @type {GPUAdapter|null} */ (await Promise.race([gpu?.requestAdapter({powerPreference: 'high-performance'}), late])) ?? null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** @param {GPUAdapter} adapter @returns {Record<string, number>} */
function limitsOf(adapter) {
  const all = /** @type {Record<string, number>} */ (/** @type {unknown} */ (adapter.limits));
  return Object.fromEntries([...Object.keys(FLOORS), ...ALSO].map((name) => [name, all[name] ?? 0]));
}

/** The least module with a SIMD instruction (i8x16.splat of 0, i8x16.popcnt): what llama.cpp's kernels are made of. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
/** One with a memory of 64-bit addresses and nothing else. */
const MEMORY64 = [0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 4, 1];

/**
 * Whether llama.cpp in WebAssembly can run: SIMD and a place for files. `memory64` says which of its two builds (engine/wasm.js).
 * @param {Pick<World, 'caches'> & {validate?: (module: Uint8Array<ArrayBuffer>) => boolean}} [world]
 * @returns {{wasm: 'yes'|'no', wasmReason: string|null, wasmCode: string|null, memory64: boolean}}
 */
export function processor({caches: hasCaches, validate = (module) => WebAssembly.validate(module)} = here()) {
  const can = (/** @type {number[]} */ module) => typeof WebAssembly !== 'undefined' && validate(new Uint8Array(module));
  const [simd, memory64] = [can(SIMD), can(MEMORY64)];
  if (simd && hasCaches) return {wasm: 'yes', wasmReason: null, wasmCode: null, memory64};
  const lacks = simd ? 'keeps no files for this page' : 'has no WebAssembly with SIMD (Chrome or Edge 91, Firefox 89, Safari 16.4)';
  const wasmCode = simd ? 'no_files_processor' : 'no_simd';
  return {wasm: 'no', wasmCode, wasmReason: `This browser ${lacks}, so a model cannot run on the processor either.`, memory64};
}

/**
 * Look at this browser and its adapter.
 * @param {World} [world]
 * @returns {Promise<Preflight>}
 */
export async function preflight(world = here()) {
  const common = {...processor(world), storage: await storageOf(world), isolated: world.isolated, sharedMemory: typeof SharedArrayBuffer !== 'undefined'};
  const blocked = blockedBrowser(world);
  const adapter = blocked ? null : await adapterOf(world);
  if (!adapter)
    return {webgpu: 'no', ...(blocked ?? noAdapter()), profile: null, adapter: null, features: [], limits: {}, ...common};
  const limits = limitsOf(adapter);
  const gpu = identify(adapter);
  const found = {adapter: gpu, features: [...adapter.features].sort(), limits, ...common};
  const low = lowLimit(limits);
  if (low) return {webgpu: 'no', ...low, profile: null, ...found};
  return {webgpu: 'yes', code: null, reason: null, remedy: null, profile: profileOf(gpu, adapter.features), ...found};
}
