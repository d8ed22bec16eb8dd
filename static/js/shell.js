/**
 * The shell: owns the DOM, starts the workers, and carries each message to whom it concerns. What it says with them is in
 * protocol.js; each part below is a module of its own. Globals, for scripts and tests: ModuleLoader, EventBus, cloudClient.
 */

import { Actions } from './actions.js';
import { Address, addressed } from './address.js';
import { themeButton } from './appearance.js';
import { EgressQuestions } from './ask.js';
import { CloudCaller } from './cloud.js';
import { commands } from './commands.js';
import { Composer } from './composer.js';
import { drawer } from './drawer.js';
import { fromWire } from './errors.js';
import { gatewayFacade, hybridFacade, localFacade } from './facades.js';
import { FindBar } from './find.js';
import { Follow } from './follow.js';
import { events, modules } from './globals.js';
import { History } from './history.js';
import { Journal } from './journal.js';
import { keepWhatIsLoaded } from './persist.js';
import { carried, move, place, sentOn } from './place.js';
import { preflight } from './preflight.js';
import { Rpc } from './rpc.js';
import { shelf } from './shelf.js';
import { Shelving } from './shelving.js';
import { sight } from './sight.js';
import { BootStatus, Notice, showFatal, showLocal, showPreflight } from './status.js';
import { addStored, assignStored, changesOf, readStored, writeStored } from './stored.js';
import { catalogue, sayError, strings, translate } from './strings.js';
import { Toasts } from './toast.js';
import { registerVerbs } from './verbs.js';
import { MessageView, announcer } from './view.js';
import { who } from './who.js';
import { Workers } from './workers.js';

/** @import {CodedError} from './errors.js' */
/** @import {BootConfig, CloudRequest, Conversation, FromPython, PanelMessage, PanelSide, ToPython, ToastOp, ViewOp} from './protocol.js' */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function part(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`index.html has no #${id}`);
}

/** @returns {BootConfig} */
function bootConfig() {
  const assets = document.querySelector('meta[name=assets]')?.getAttribute('content') ?? '';
  const query = Object.fromEntries(new URLSearchParams(location.search));
  return { origin: location.origin, assets, place: place(), query, stored: readStored() };
}

/**
 * A worker's policy is that of its script, so in the local-only document it comes from where scripts carry the strict one.
 * @param {string} name below js/
 */
function script(name) {
  return config.place === 'local' ? new URL(`/local${config.assets}/js/${name}`, config.origin) : new URL(`./${name}`, import.meta.url);
}

/** Whether anything may leave this browser now, as far as its person has said; asked of who decides, and no when in doubt. */
async function mayLeave() {
  const { egress } = /** @type {{egress?: unknown}} */ (readStored().preferences ?? {});
  if (config.place === 'local' || egress === 'never') return false;
  return (await Promise.resolve(hybrid.api.getMode?.()).catch(() => 'local-only')) !== 'local-only';
}

translate(document);
const config = bootConfig();
keepWhatIsLoaded(events);
const boot = new BootStatus(part('boot', HTMLElement));
const notice = new Notice(part('notice', HTMLElement));
const toasts = new Toasts(part('toasts', HTMLElement));
const hello = part('hello', HTMLElement);
const panelRoot = part('panel-root', HTMLElement);
const list = part('messages', HTMLElement);
const journal = new Journal(config.place);
const view = new MessageView(list, announcer(part('announcer', HTMLElement)), decide, () => journal.mark());
const follow = new Follow(part('scroller', HTMLElement), list, part('jump', HTMLButtonElement));
new FindBar(view, part('find', HTMLElement));
const workers = new Workers(config, receive, fatal);
const actions = new Actions({
  view,
  list,
  home: part('composer', HTMLTextAreaElement),
  post: (message) => workers.post(message),
  announce: announcer(part('announcer', HTMLElement)),
});
shelf.onChange(({ conversation, kind }) => kind === 'removed' && composer.forget(conversation));
const shelving = new Shelving(shelf, (message) => workers.post(message));
const address = new Address((id) => {
  if (id) workers.post({ kind: 'ui', event: 'open-conversation', id });
  else workers.post({ kind: 'ui', event: 'new-conversation' });
});
const chats = new History({
  root: part('history', HTMLElement),
  toggle: part('history-toggle', HTMLButtonElement),
  scrim: part('history-scrim', HTMLElement),
  fresh: part('new-conversation', HTMLElement),
  shelf,
  toasts,
  post: (message) => workers.post(message),
  script: script('exchange/exchange.worker.js'),
  mayLeave,
});
const rpc = new Rpc((message) => workers.post(message));
const cloud = new CloudCaller((message) => workers.post(message));
const hybrid = hybridFacade(rpc, cloud);
const sayWho = who(part('panel-toggle', HTMLButtonElement), events);
const questions = new EgressQuestions(part('egress', HTMLDialogElement), (requestId, answer) => {
  hybrid.api.answerEgress?.(requestId, answer).catch((/** @type {Error} */ error) => toasts.show('error', sayError(error)));
});
const composer = new Composer({
  form: part('composer-form', HTMLFormElement),
  input: part('composer', HTMLTextAreaElement),
  send: part('send', HTMLButtonElement),
  stop: part('stop', HTMLButtonElement),
  hint: part('hint', HTMLElement),
  files: part('files', HTMLElement),
  attach: part('attach', HTMLButtonElement),
  chooser: part('chooser', HTMLInputElement),
  slash: part('slash', HTMLElement),
  commands,
  sight: () => sight(hybrid.api),
  onSend: (text, attachments) => {
    follow.hold();
    workers.post({ kind: 'ui', event: 'send', text, ...(attachments.length ? { attachments } : {}) });
  },
  onStop: () => workers.post({ kind: 'ui', event: 'stop' }),
});

/** What each kind of message from Python does. */
const handlers = /** @type {Record<string, (message: any) => void>} */ ({
  status: ({ step, fraction }) => boot.say(catalogue.steps[step] ?? strings.starting, fraction),
  ready: ({ stage }) => (stage === 'core' ? coreReady() : uiReady()),
  event: ({ name, detail }) => (events.emit(name, detail), toQuestions(name, detail), toChats(name, detail)),
  view: ({ op }) => draw(op),
  engine: () => void workers.restartEngine(),
  store: ({ key, value, how }) => store(key, value, how),
  journal: (message) => journal.receive(message),
  shelf: (message) => shelving.receive(message),
  move: (message) => void moved(message),
  fatal: ({ error }) => fatal(fromWire(error)),
  panel: (message) => void toPanel(message),
  'cloud-call': (message) => cloud.receive(/** @type {CloudRequest} */ (message)),
  'cloud-abort': (message) => cloud.receive(/** @type {CloudRequest} */ (message)),
});

/** @param {FromPython} message */
function receive(message) {
  if (rpc.receive(message)) return;
  const handler = handlers[message.kind];
  if (handler) handler(message);
  else console.warn(`shell: unknown message kind '${message.kind}'`);
}

/** @param {ViewOp} op */
function draw(op) {
  if (op.type === 'busy') {
    composer.busy(op.value);
    toasts.hold(op.value);
  } else if (op.type === 'toast') toasts.show(op.toast, said(op), undoing(op));
  else view.apply(op);
  if (op.type === 'open' || op.type === 'conversation') {
    address.shows(op.conversation);
    composer.conversation(op.conversation);
  }
  chats.follow(op);
  if (op.type === 'delta') journal.delta(op);
  if (op.type === 'delta') return;
  hello.hidden = !view.empty;
  actions.drawn();
}

/**
 * What a toast of Python's says: a sentence of the catalogue, or a text as it is.
 * @param {ToastOp} op
 */
function said({ say = '', args = {}, text = '' }) {
  const sentence = /** @type {Record<string, (args: any) => string>} */ (strings.toasts)[say];
  if (!sentence) return args.code ? sayError({ code: args.code, message: text }) : text;
  return sentence('code' in args ? { ...args, message: sayError({ code: args.code, message: String(args.message ?? '') }) } : args);
}

/** @param {ToastOp} op the button of a toast that tells what can be taken back */
function undoing({ undo: token }) {
  return token ? { text: strings.undo, run: () => workers.post({ kind: 'ui', event: 'undo', token }) } : undefined;
}

/**
 * The person goes to the other document, when what is open is written.
 * @param {{to: 'local'|'main', conversation: Conversation}} message
 */
async function moved({ to, conversation }) {
  if (!move(to, conversation, await shelving.written())) toasts.show('warning', strings.cannotCarry);
}

/**
 * @param {string} name of an event
 * @param {any} detail
 */
function toQuestions(name, detail) {
  if (name === 'egress:asked') questions.ask(detail);
  else if (name === 'egress:sent' || name === 'egress:refused') questions.settled(detail.requestId);
}

/**
 * @param {string} name of an event
 * @param {any} detail
 */
function toChats(name, detail) {
  if (name === 'hybrid-llm:mode-changed') chats.closed(detail.to === 'local-only');
}

/**
 * A button of a message's: one of actions.js, or what the person decides of an answer that was cut off.
 * @param {string} act
 * @param {string} id of the message
 */
function decide(act, id) {
  if (actions.press(act, id)) return;
  if (act === 'keep') workers.post({ kind: 'ui', event: 'keep', id });
  else workers.post({ kind: 'ui', event: 'resume', id, on: act === 'resume-cloud' ? 'cloud' : 'local' });
  part('composer', HTMLTextAreaElement).focus(); // the button that was pressed is gone
}

/** What another document left; or else the conversation that the address names, and an answer that was cut off. */
async function restore() {
  const conversation = carried();
  if (conversation) return workers.post({ kind: 'restore', conversation });
  const open = addressed();
  if (open) workers.post({ kind: 'restore', open });
  const found = await journal.find(open);
  if (found) workers.post({ kind: 'restore', ...found });
}

function watchAttention() {
  let frozenAt = 0;
  const tell = (frozenMs = 0) => workers.post({ kind: 'visibility', hidden: document.hidden, frozenMs });
  document.addEventListener('visibilitychange', () => tell());
  document.addEventListener('freeze', () => (frozenAt = Date.now()));
  document.addEventListener('resume', () => tell(frozenAt ? Date.now() - frozenAt : 0));
}

function coreReady() {
  boot.done();
  modules.ready();
  composer.ready();
  chats.ready();
  Promise.resolve(hybrid.api.getMode?.()).then(sayWho, () => {});
}

function uiReady() {
  panelRoot.querySelector('[data-skeleton]')?.remove();
}

let storageWarned = false;

/**
 * @param {string} key
 * @param {any} value
 * @param {'assign'|'add'} [how]
 */
function store(key, value, how) {
  if (how === 'add') addStored(key, value, (kept, sums) => (warn(kept), workers.post({ kind: 'stored', key, value: sums })));
  else warn(how === 'assign' ? assignStored(key, value) : writeStored(key, value));
}

/** @param {boolean} kept */
function warn(kept) {
  if (kept || storageWarned) return;
  storageWarned = true;
  toasts.show('warning', strings.stored);
}

/** What the page holds, for the person's own plot; only some browsers tell. */
function watchMemory() {
  const weigh = () => workers.post({ kind: 'memory', page: Reflect.get(performance, 'memory')?.usedJSHeapSize ?? 0, python: 0 });
  setInterval(() => document.hidden || weigh(), 15_000);
  weigh();
}

function watchStored() {
  addEventListener('storage', (event) => {
    const changes = changesOf(/** @type {StorageEvent} */ (event));
    if (changes) workers.post({ kind: 'stored', ...changes });
  });
}

/** @param {CodedError} error */
function fatal(error) {
  boot.done();
  modules.fail(error);
  rpc.fail(error);
  showFatal(part('fatal', HTMLDialogElement), error);
}

/** @type {Promise<PanelSide>|null} */
let panel = null;

/** @param {PanelMessage} message */
async function toPanel(message) {
  const post = (/** @type {ToPython} */ reply, /** @type {Transferable[]} */ transfer = []) => workers.post(reply, transfer);
  panel ??= import('./panel.js').then((module) => module.connect({ root: panelRoot, assets: config.assets, post }));
  (await panel).receive(message);
}

function watchNetwork() {
  let here = false; // whether a model in this browser answers
  const show = () => notice.set('offline', navigator.onLine ? [] : [here ? strings.offline : strings.offlineAlone]);
  const tell = () => {
    workers.post({ kind: 'online', value: navigator.onLine });
    show();
  };
  addEventListener('online', tell);
  addEventListener('offline', tell);
  for (const name of ['ready', 'unloaded', 'error']) events.on(`local-llm:${name}`, () => ((here = name === 'ready'), show()));
  if (!navigator.onLine) tell();
}

/** @param {boolean} temporary never stored */
function newChat(temporary) {
  workers.post({ kind: 'ui', event: 'new-conversation', temporary });
  part('composer', HTMLTextAreaElement).focus();
}

function wireControls() {
  themeButton(part('theme', HTMLButtonElement));
  const openPanel = drawer(panelRoot, part('panel-toggle', HTMLButtonElement), part('scrim', HTMLElement));
  part('new-conversation', HTMLButtonElement).addEventListener('click', () => newChat(false));
  registerVerbs(commands, {
    newChat,
    stop: () => workers.post({ kind: 'ui', event: 'stop' }),
    busy: () => !part('stop', HTMLButtonElement).hidden,
    setMode: (mode) => workers.post({ kind: 'ui', event: 'set-mode', mode }),
    focusComposer: () => part('composer', HTMLTextAreaElement).focus(),
    togglePanel: () => part('panel-toggle', HTMLButtonElement).click(),
    showPanel: openPanel,
    panelled: () => panel !== null && !panelRoot.querySelector('[data-skeleton]'),
  });
  hello.addEventListener('click', ({ target }) => {
    const prompt = target instanceof HTMLElement && target.dataset.prompt;
    if (prompt) composer.fill(prompt);
  });
}

function publish() {
  const local = localFacade(rpc);
  const gateway = gatewayFacade(hybrid);
  cloud.builtin = gateway;
  modules.register('HybridLLMProvider', hybrid);
  modules.register('LocalLLM', local);
  modules.register('ApiClient', gateway);
  modules.register('EventBus', events);
  Object.assign(globalThis, { cloudClient: gateway });
}

publish();
document.documentElement.dataset.shell = '';
wireControls();
if (!sentOn(config.stored, config.query)) start();

function start() {
  void workers.start();
  void restore();
  watchNetwork();
  watchAttention();
  watchStored();
  shelf.onTrouble((error) => toasts.show('warning', sayError(error)));
  watchMemory();
  if (config.place === 'local') {
    const leave = () => workers.post({ kind: 'ui', event: 'leave-local' });
    showLocal(part('banner', HTMLElement), part('promise', HTMLElement), leave);
  }
  void preflight().then((result) => {
    workers.post({ kind: 'preflight', result });
    showPreflight(part('promise', HTMLElement), part('no-local', HTMLElement), result);
  });
}
