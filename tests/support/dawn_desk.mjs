// `library_desk`'s page without a browser: WebLLM and its tvmjs in Node, on the WebGPU of the npm package `webgpu` (Dawn).
//
//     node dawn_desk.mjs WEB_LLM_INDEX_MJS WEBGPU_INDEX_JS ORIGIN PAGE_SCRIPT
//
// Reads lines of JSON, {"call": name of a function of the page's script, "args": [...]}, and answers each with a line,
// {"made": what it returned} or {"error": text}. The first line it writes by itself: {"made": the adapter's features}, or null
// where there is no adapter.
import {readFileSync} from 'node:fs';
import {createInterface} from 'node:readline';
import {pathToFileURL} from 'node:url';

const [, , webllm, webgpu, origin, script] = process.argv;
const {create, globals} = await import(pathToFileURL(webgpu).href);
Object.assign(globalThis, globals);
const gpu = create(['backend=vulkan']);
await import('../unit/engine/pages/weigh.js'); // gives `weighed`
globalThis.navigator = {gpu, userAgent: 'node'};
// Emscripten's parts then do as in a page; what Node itself loads late and asks the version, `fetch`, is loaded before.
await fetch('data:,');
Object.defineProperty(process, 'versions', {value: {}});
globalThis.window = globalThis;
globalThis.location = {origin, href: `${origin}/`};

// The Cache API, in memory.
const kept = new Map();
const urlOf = (request) => new URL(typeof request === 'string' ? request : request.url, origin).href;
const cache = {
  match: async (request) => {
    const held = kept.get(urlOf(request));
    return held && new Response(held);
  },
  put: async (request, response) => void kept.set(urlOf(request), await response.arrayBuffer()),
  add: async (request) => cache.put(request, await fetch(request)),
  delete: async (request) => kept.delete(urlOf(request)),
  keys: async () => [...kept.keys()],
};
globalThis.caches = {open: async () => cache, has: async () => true, delete: async () => true};

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);
for (const level of ['log', 'info', 'warn', 'debug']) console[level] = console.error;
const adapter = await gpu.requestAdapter();
if (adapter) {
  const {MLCEngine} = await import(pathToFileURL(webllm).href);
  const body = readFileSync(script, 'utf8').replace(/^import .*$/m, '');
  new Function('MLCEngine', body)(MLCEngine);
}
say({made: adapter && [...adapter.features]});
for await (const line of createInterface({input: process.stdin})) {
  const {call, args} = JSON.parse(line);
  try {
    say({made: (await globalThis[call](...args)) ?? null});
  } catch (error) {
    say({error: String(error?.stack ?? error)});
  }
}
process.exit(0);
