// The engine worker with a WebLLM that follows a script: a stand-in for the package only, the rest is the real thing.
// A model's config says how loading goes: {script: {steps, everyMs, fail, device, lose}}; the last message says how generating goes:
// {say: [text...], everyMs, failAt, fail, loseAt, hangAt, endless}. `fail` is [name, message], or a string to throw bare.
// Kept generations are set by {kind: 'script', sessions: {id: {said, rest: [text...], busy, finished, broken, stuck}}}: `busy` times somebody else holds it.
import {serve} from '/js/engine/host.js';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let blocked = 0;
let sessions = {};

function failure(fail) {
  return typeof fail === 'string' ? fail : Object.assign(new Error(fail[1]), {name: fail[0]});
}

class MLCEngine {
  constructor({appConfig, initProgressCallback}) {
    this.record = appConfig.model_list[0];
    this.report = initProgressCallback;
    this.message = '';
    this.interrupted = false;
    this.chat = {completions: {create: (request) => this.create(request)}};
  }

  async read(cache, path) {
    const url = `${this.record.model}resolve/main/${path}`;
    const found = await (await caches.open(cache)).match(new Request(url));
    if (!found) throw new Error('Cannot fetch ' + url);
    return found;
  }

  async reload(id) {
    const {script = {}} = await (await this.read('webllm/config', 'mlc-chat-config.json')).json();
    const conversation = {config: {role_templates: script.roles}};
    this.loadedModelIdToPipeline = new Map([[id, {conversation}]]);
    const {records} = await (await this.read('webllm/model', 'tensor-cache.json')).json();
    this.library = await (await fetch(this.record.model_lib)).text();
    await this.read('webllm/model', 'tokenizer.json');
    if (script.device) this.device = await (await navigator.gpu.requestAdapter()).requestDevice();
    if (script.lose) {
      this.device.destroy();
      await new Promise(() => {});
    }
    for (const [i, {dataPath}] of records.entries()) {
      const bytes = (await (await this.read('webllm/model', dataPath)).arrayBuffer()).byteLength;
      if (script.shardBytes && bytes !== script.shardBytes) throw new RangeError('offset is out of bounds');
      await pause(script.everyMs ?? 0);
      this.report({progress: (i + 1) / records.length, text: `Loading model from cache[${i + 1}/${records.length}]`});
    }
    if (script.fail) throw failure(script.fail);
    for (let i = 1; i <= 4; i += 1) this.report({progress: i / 4, text: `Loading GPU shader modules[${i}/4]`});
    this.report({progress: 1, text: 'Finish loading on WebGPU - scripted'});
    this.id = id;
  }

  async unload() {
    this.device?.destroy();
    this.id = null;
  }

  interruptGenerate() {
    this.interrupted = true;
  }

  async getMessage() {
    return this.message;
  }

  async deleteResumableSession(id) {
    if (sessions[id]?.stuck) throw new Error('Resumable session is already active: ' + id);
    delete sessions[id];
  }

  async listResumableSessions() {
    return Object.entries(sessions).map(([sessionId, {finished}]) => ({sessionId, reason: finished ? 'generation finished' : 'missing RNG state'}));
  }

  async resumeChatCompletion(id, options) {
    const session = sessions[id];
    if (!session) throw new Error('Resumable session not found: ' + id);
    const {said = '', rest = [], busy = 0} = session;
    if (!options?.continueGeneration || session.finished || session.broken) return {recoveredText: said};
    const generate = () => this.generate({messages: [{content: JSON.stringify({before: said, say: rest, everyMs: session.everyMs})}]});
    return (async function* () {
      if (busy) throw (session.busy -= 1, new Error('Resumable session is already active: ' + id));
      yield* generate();
    })();
  }

  async create(request) {
    if (!this.id) throw failure(['ModelNotLoadedError', 'not loaded']);
    this.request = request;
    const [{content}] = request.messages;
    const sees = this.record.model_type === 2; // ModelType.VLM
    if (Array.isArray(content) && !sees) throw failure(['UserMessageContentErrorForNonVLM', 'The model loaded is not of type ModelType.VLM']);
    return this.generate(request);
  }

  async *generate(request) {
    const script = JSON.parse(request.messages.at(-1).content);
    if (script.echo) script.say = [JSON.stringify(request)];
    if (script.library) script.say = [this.library];
    if (script.sessions) script.say = [JSON.stringify(sessions)];
    const keep = request.extra_body?.resumable?.sessionId;
    if (keep && sessions[keep]) throw new Error('Resumable session exists: ' + keep); // as WebLLM: a name serves once
    if (keep) sessions[keep] = {said: ''};
    this.interrupted = false; // as WebLLM: an interrupt from before the beginning is forgotten
    this.message = script.before ?? '';
    const words = script.say ?? ['one ', 'two ', 'three'];
    let given = 0;
    for (let i = 0; i < (script.until ?? words.length) || (script.endless && !script.until); i += 1) {
      if (script.everyMs !== undefined || i % 500 === 0) await pause(script.everyMs ?? 0);
      if (script.failAt === i) throw failure(script.fail);
      if (script.loseAt === i) this.device.destroy();
      if (script.loseAt === i || script.hangAt === i) await new Promise(() => {});
      if (this.interrupted) break;
      const word = words[i % words.length];
      this.message += word;
      given += 1;
      if (i < (script.withholdFrom ?? Infinity)) yield {choices: [{index: 0, delta: {content: word}, finish_reason: null}]};
    }
    const reason = this.interrupted ? 'abort' : given >= (request.max_tokens ?? Infinity) ? 'length' : 'stop';
    yield {choices: [{index: 0, delta: {}, finish_reason: reason}]};
    yield {choices: [], usage: {prompt_tokens: 7, completion_tokens: given, total_tokens: 7 + given,
      extra: {prefill_tokens_per_s: 70, decode_tokens_per_s: given > 1 ? 10 : NaN}}};
  }
}

self.addEventListener('message', ({data}) => {
  if (data.kind === 'boot') serve(data.port, data.lock, async () => ({MLCEngine}));
  if (data.kind === 'script' && data.sessions) sessions = data.sessions;
  if (data.kind === 'script' && data.estimate) navigator.storage.estimate = async () => data.estimate;
  if (data.kind === 'script' && data.blockMs) {
    const until = performance.now() + data.blockMs;
    while (performance.now() < until) blocked += 1; // a worker that answers nothing, as one stuck in a driver call
  }
});
