// The test page's hands: one engine worker, its client, and what they said.
import {createEngineClient} from '/js/engine/client.js';
import {preflight} from '/js/preflight.js';

export {preflight};
export const events = {};
export const deaths = [];
export const losses = [];
const running = {};
export let worker;
let client;

export let lock;
export const states = [];

function connect(url) {
  const {port1, port2} = new MessageChannel();
  lock = crypto.randomUUID();
  worker = new Worker(url, {type: 'module'});
  worker.postMessage({kind: 'boot', config: {origin: location.origin, assets: ''}, port: port2, lock}, [port2]);
  return [port1, lock];
}

export async function begin(url, patience) {
  client = createEngineClient(...connect(url), patience);
  client.onDeath = (json) => deaths.push(JSON.parse(json));
  client.onLost = (json) => losses.push(JSON.parse(json));
  client.onState = (json) => states.push(JSON.parse(json));
}

// This page as another tab: a client of the engine that holds `theirs`.
export function join(theirs) {
  client = createEngineClient(null, theirs);
  client.onDeath = (json) => deaths.push(JSON.parse(json));
  client.onState = (json) => states.push(JSON.parse(json));
}

export const leave = () => client.attach(new MessageChannel().port1, crypto.randomUUID());
export const restart = (url) => client.attach(...connect(url));
export const terminate = () => worker.terminate();
export const script = (message) => worker.postMessage({kind: 'script', ...message});

function facts(error) {
  return {failed: {isError: error instanceof Error, ...error, name: error.name, message: error.message, phase: error.phase}};
}

export async function call(op, args, name = 'last', signal = null) {
  const mine = (events[name] = []);
  try {
    return JSON.parse(await client.call(op, JSON.stringify(args), (json) => mine.push(JSON.parse(json)), signal));
  } catch (error) {
    return facts(error);
  }
}

export const raw = (op, args) => client.call(op, args).then((value) => ({value}), facts);

export function start(name, op, args) {
  const control = new AbortController();
  running[name] = {control, done: call(op, args, name, control.signal)};
}

export const stop = (name) => running[name].control.abort();
export const end = (name) => running[name].done;
export const pending = (name) => Promise.race([running[name].done.then(() => false), new Promise((r) => setTimeout(r, 0, true))]);

// Cache contents, for looking and for spoiling.
export async function keys(name) {
  return (await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname.split('/').pop());
}

export async function spoil(cache, path, body, keepHeaders) {
  const store = await caches.open(cache);
  for (const request of await store.keys()) {
    if (!request.url.endsWith('/' + path)) continue;
    const headers = keepHeaders ? (await store.match(request)).headers : {};
    await store.put(request, new Response(body, {headers}));
    return true;
  }
  return false;
}

// Messages a second from a worker that does nothing but post them: what the browser itself allows.
export async function bare(count) {
  const source = `for (let i = 0; i < ${count}; i += 1) postMessage({kind: 'event', id: 1, event: {type: 'delta', delta: 'word '}});`;
  const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  const begun = performance.now();
  const posting = new Worker(url);
  let seen = 0;
  await new Promise((resolve) => (posting.onmessage = () => (seen += 1) === count && resolve()));
  posting.terminate();
  return (count * 1000) / (performance.now() - begun);
}

// Deltas a second of one chat through worker, port and client.
export async function deltasPerSecond(count) {
  const begun = performance.now();
  let seen = 0;
  const content = JSON.stringify({say: ['word '], endless: true, until: count});
  const args = {requestId: crypto.randomUUID(), messages: [{role: 'user', content}]};
  await client.call('chat', args, () => (seen += 1));
  return (seen * 1000) / (performance.now() - begun);
}
