/**
 * Panel's main-thread half: draws the Bokeh document that Python made, and carries changes both ways as JSON text.
 *
 * Panel's JavaScript (three scripts of the bundle) is loaded when Python says `prepare`, that is after the composer works. Its
 * components are ES modules of ours, imported natively; Panel would bring a module shim for that, so `importShim` is set first.
 *
 *     Python -> here   prepare | render {docs, items, roots} | patch {patch} | failed {error}
 *     here -> Python   rendered | patch {patch}
 */

import { element } from './dom.js';
import { sayError, sayRemedy, strings } from './strings.js';

/** @import {PanelHost, PanelMessage, PanelSide, WireError} from './protocol.js' */

/**
 * The little of BokehJS that is used here.
 * @typedef {{setter_id?: string|null, kind?: string, sync?: boolean}} DocumentEvent
 * @typedef {object} BokehDocument
 * @property {(listener: (event: DocumentEvent) => void, batch: boolean) => void} on_change
 * @property {(events: DocumentEvent[]) => object} create_json_patch
 * @property {(patch: object, buffers: Map<string, ArrayBuffer>) => void} apply_json_patch
 * @typedef {{roots: Map<string, unknown>|Set<unknown>|unknown[]}} Views
 * @typedef {{embed: {embed_items(docs: object, items: object[]): Promise<any[]>}, set_log_level?: (level: string) => void}} Bokeh
 */

const SCRIPTS = ['bokeh.min.js', 'bokeh-widgets.min.js', 'panel.min.js'];

/** @param {string} src */
function script(src) {
  return new Promise((resolve, reject) => {
    const tag = document.createElement('script');
    tag.src = src;
    tag.async = false;
    tag.addEventListener('load', resolve);
    tag.addEventListener('error', () => reject(new Error(`${src} could not be loaded`)));
    document.head.append(tag);
  });
}

class Panel {
  #root;
  #assets;
  #post;
  /** @type {Promise<Bokeh>|null} */
  #library = null;
  /** @type {BokehDocument|null} */
  #document = null;
  #applying = false;

  /** @param {PanelHost} host */
  constructor({ root, assets, post }) {
    this.#root = root;
    this.#assets = assets;
    this.#post = post;
  }

  /** @param {PanelMessage} message */
  receive(message) {
    if (message.op === 'prepare') this.#load().catch(() => {}); // `render` waits for the same promise and reports
    else if (message.op === 'render') this.#render(message).catch((error) => this.#failed(error));
    else if (message.op === 'patch') this.#apply(message.patch);
    else if (message.op === 'failed') this.#failed(message.error);
  }

  /** @returns {Promise<Bokeh>} */
  #load() {
    this.#library ??= this.#loadScripts();
    return this.#library;
  }

  async #loadScripts() {
    const importShim = Object.assign((/** @type {string} */ url) => import(url), { addImportMap() {} });
    Object.assign(globalThis, { importShim });
    await Promise.all(SCRIPTS.map((name) => script(`${this.#assets}/vendor/panel/${name}`)));
    const bokeh = /** @type {Bokeh} */ (Reflect.get(globalThis, 'Bokeh'));
    bokeh.set_log_level?.('warn');
    return bokeh;
  }

  /** @param {PanelMessage} message */
  async #render({ docs, items, roots }) {
    const bokeh = await this.#load();
    const [item] = items;
    item.roots = Object.fromEntries(roots.map((/** @type {{id: string, name: string}} */ { id, name }) => [id, this.#place(name)]));
    item.root_ids = roots.map((/** @type {{id: string}} */ { id }) => id);
    const [views] = await bokeh.embed.embed_items(docs, items);
    this.#document = [...views.roots.values()][0].model.document;
    this.#document?.on_change((event) => this.#changed(event), false);
    this.#post({ kind: 'panel', op: 'rendered' });
  }

  /** @param {string} name @returns {string} the id of the element that a root of the document is drawn into */
  #place(name) {
    const place = element('div', 'panel-part');
    place.id = `panel-${name}`;
    this.#root.append(place);
    return place.id;
  }

  /** @param {DocumentEvent} event */
  #changed(event) {
    if (this.#applying || event.setter_id === 'py' || !this.#document) return;
    this.#post({ kind: 'panel', op: 'patch', patch: JSON.stringify(this.#document.create_json_patch([event])) });
  }

  /** @param {string} patch */
  #apply(patch) {
    this.#applying = true;
    try {
      this.#document?.apply_json_patch(JSON.parse(patch), new Map());
    } finally {
      this.#applying = false;
    }
  }

  /** @param {Error|WireError} error says so where Panel would stand: the chat goes on without it */
  #failed(error) {
    const notice = element('div', 'panel-failed');
    notice.setAttribute('role', 'alert');
    const button = element('button', 'primary', strings.reload);
    button.type = 'button';
    button.addEventListener('click', () => location.reload());
    notice.append(element('p', '', sayError(error)), element('p', '', sayRemedy(error)), button);
    this.#root.replaceChildren(notice);
  }
}

/** @param {PanelHost} host @returns {PanelSide} */
export const connect = (host) => new Panel(host);
