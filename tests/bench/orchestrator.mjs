/**
 * The orchestrator in Pyodide, as the page has it, between a scripted engine and a scripted server; the same engine read directly is its
 * peer. Run by bench_orchestrator.py: `node orchestrator.mjs <pyodide folder> <core.zip>`; prints one JSON object.
 */

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [, , pyodide, core] = process.argv;
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: `${pyodide}/` });
python.unpackArchive(readFileSync(core).buffer, 'zip', { extractDir: '/app' });
python.runPython('import sys; sys.path.insert(0, "/app")');

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const turn = () => new Promise((resolve) => setImmediate(resolve));
const TTFT_MS = 50;
/** Each dies once: a model that died three times is left in peace by its breaker, and its requests begin in the cloud. */
const MORTALS = Array.from({ length: 9 }, (_, index) => `mortal-${index}`);

/** What the next chat of the engine does: how many tokens, how far apart (0: as fast as it can), and where it dies. */
const script = { tokens: 0, gapMs: 0, dieAt: -1 };
let diedAt = 0;

class EngineError extends Error {
  constructor(name, message, phase) {
    super(message);
    this.name = name;
    this.phase = phase;
  }
}

/** Generates by the script, telling each delta as the engine worker's client does: JSON text. */
async function generate(onEvent) {
  const { tokens, gapMs, dieAt } = { ...script };
  const start = performance.now();
  for (let index = 0; index < tokens; index += 1) {
    if (index === dieAt) {
      diedAt = performance.now();
      engine.onDeath?.(JSON.stringify({ name: 'EngineDeadError', message: 'The local engine has ended.', phase: 'worker' }));
      throw new EngineError('EngineDeadError', 'The local engine has ended.', 'worker');
    }
    if (gapMs) await sleep(Math.max(0, start + (index + 1) * gapMs - performance.now()));
    else if (index % 8 === 7) await turn();
    onEvent(JSON.stringify({ type: 'delta', delta: 'token ' }));
  }
  return { text: 'token '.repeat(tokens), finishReason: 'stop', usage: { promptTokens: 1, completionTokens: tokens }, timings: {} };
}

const engine = {
  onDeath: null,
  onLost: null,
  async call(op, _args, onEvent) {
    if (op === 'chat') return JSON.stringify(await generate(onEvent));
    if (op === 'load') return JSON.stringify({ model: 'tiny', profile: 'gpu', gpu: {} });
    return op === 'cached' ? JSON.stringify({ models: [] }) : '{}';
  },
};

const json = (value) => new Response(JSON.stringify(value));
const FILES = {
  '/healthz': { status: 'ok' },
  '/v1/models': { data: [{ id: 'house', capabilities: { prefill: true } }] },
  '/models/index.json': { models: ['tiny', ...MORTALS].map((id) => ({ id, state: 'built', files: [] })) },
  '/api/preferences': { version: 0, preferences: {} },
};
globalThis.fetch = async (url) => {
  const { pathname } = new URL(url);
  if (pathname !== '/v1/chat/completions') return json(FILES[pathname] ?? {});
  await sleep(TTFT_MS);
  const event = (content) => `data: ${JSON.stringify(content)}\n\n`;
  const body = event({ choices: [{ delta: { content: 'the end' } }] }) + event({ choices: [{ delta: {}, finish_reason: 'stop' }] });
  return new Response(`${body}data: [DONE]\n\n`);
};

const waiting = new Map();
let deltas = 0;
let firstCloud = 0;
const host = {
  origin: 'http://bench',
  engine,
  post(text) {
    if (text.includes('"kind": "rpc-result"') || text.includes('"kind": "rpc-error"') || text.includes('"finish"')) {
      const message = JSON.parse(text);
      waiting.get(message.id ?? message.op?.type)?.(message);
    } else if (text.startsWith('{"kind":"rpc-chunk"')) {
      deltas += 1;
      if (!firstCloud && text.includes('"provider":"cloud"')) firstCloud = performance.now();
    }
  },
  delta() {
    deltas += 1;
  },
};
const page = python.pyimport('hybr.webapp.page');
await page.boot(host, JSON.stringify({ origin: host.origin, assets: '/assets/x', query: {}, stored: {} }));
page.receive(JSON.stringify({ kind: 'preflight', result: { webgpu: 'yes', features: [], limits: {} } }));

let count = 0;
function rpc(module, method, ...args) {
  const id = `bench-${(count += 1)}`;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    page.receive(JSON.stringify({ kind: 'rpc', id, module, method, args }));
  });
}
const ask = [{ role: 'user', content: 'hi' }];
const stream = () => rpc('HybridLLMProvider', 'stream', ask, { requestId: `r${(count += 1)}` });

async function timed(work) {
  deltas = 0;
  const start = performance.now();
  await work();
  return performance.now() - start;
}

const say = () =>
  new Promise((resolve) => {
    waiting.set('finish', resolve);
    page.receive(JSON.stringify({ kind: 'ui', event: 'send', text: 'hi' }));
  });

if ((await rpc('LocalLLM', 'init', 'tiny')).value !== true) throw new Error('no engine');
if ((await rpc('HybridLLMProvider', 'setMode', 'local')).value !== true) throw new Error('no local mode');

Object.assign(script, { tokens: 2000, gapMs: 0, dieAt: -1 });
await stream(); // warm
script.tokens = 20000;
const out = {};
out.direct = (script.tokens / (await timed(() => generate(() => {})))) * 1000;
out.stream = (script.tokens / (await timed(stream))) * 1000;
out.chat = (script.tokens / (await timed(say))) * 1000;

Object.assign(script, { tokens: 200, gapMs: 10 });
out.pacedDirect = (script.tokens / (await timed(() => generate(() => {})))) * 1000;
out.paced = (script.tokens / (await timed(stream))) * 1000;

Object.assign(script, { tokens: 50, gapMs: 1, dieAt: 20 });
const gaps = [];
for (const model of MORTALS) {
  if ((await rpc('LocalLLM', 'init', model)).value !== true) throw new Error(`${model} was not loaded`);
  diedAt = firstCloud = 0;
  await stream();
  if (!diedAt || !firstCloud) throw new Error(`${model} was not handed over: died ${diedAt}, cloud ${firstCloud}`);
  gaps.push(firstCloud - diedAt - TTFT_MS);
}
out.handoverGapMs = gaps.sort((a, b) => a - b)[gaps.length >> 1];
out.handoverGapsMs = gaps;
console.log(JSON.stringify(out));
process.exit(0);
