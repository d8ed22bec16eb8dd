/** What was found: conversations, and under each the messages with what they say around the words. */

import { element } from '../dom.js';
import { SHOWN, marked, snippet, words as wordsOf } from '../search.js';
import { catalogue } from '../strings.js';
import { titleOf } from './rows.js';

/** @import {Row} from '../shelf/change.js' */
/** @import {Shelf} from '../shelf.js' */
/** @import {Hit} from '../search.js' */

const words = catalogue.history;

export class Results {
  #list = element('div', 'results');
  #note = element('p', 'found');
  #shelf;
  #turn = 0;

  /** @param {HTMLElement} scroller @param {Shelf} shelf */
  constructor(scroller, shelf) {
    this.#shelf = shelf;
    this.#list.hidden = true;
    this.#list.setAttribute('role', 'list');
    this.#list.ariaLabel = words.results;
    this.#note.setAttribute('role', 'status');
    this.#note.hidden = true;
    scroller.append(this.#note, this.#list);
  }

  hide() {
    this.#turn += 1;
    this.#list.hidden = this.#note.hidden = true;
    this.#list.replaceChildren();
  }

  /** @param {Hit[]} hits @param {Map<string, Row>} rows @param {string} query @param {boolean} complete whether all was searched */
  show(hits, rows, query, complete) {
    const turn = (this.#turn += 1);
    this.#list.hidden = this.#note.hidden = false;
    const shown = hits.filter(({ conversation }) => rows.has(conversation)).slice(0, SHOWN.conversations);
    const messages = hits.reduce((sum, { nodes, more }) => sum + nodes.length + more, 0);
    this.#note.textContent = (hits.length ? words.found(messages, hits.length) : complete ? words.nothing : '') + (complete ? '' : ` ${words.searching}`);
    this.#list.replaceChildren(...shown.map((hit) => this.#group(hit, /** @type {Row} */ (rows.get(hit.conversation)), query)));
    void this.#fill(shown, query, turn);
  }

  /** @param {Hit} hit @param {Row} row @param {string} query */
  #group({ conversation, nodes, more }, row, query) {
    const group = element('div', 'hit');
    group.setAttribute('role', 'listitem');
    const title = element('button', 'chat-open');
    Object.assign(title, { type: 'button', tabIndex: -1 });
    Object.assign(title.dataset, { testid: 'conversation', id: conversation });
    const name = element('span', 'name');
    name.append(...pieces(marked(titleOf(row), wordsOf(query))));
    title.append(name);
    group.append(title);
    for (const { id } of nodes) {
      const line = element('button', 'line');
      Object.assign(line, { type: 'button', tabIndex: -1 });
      Object.assign(line.dataset, { testid: 'search-hit', id: conversation, node: id });
      group.append(line);
    }
    if (more) group.append(element('p', 'rest', words.moreHits(more)));
    return group;
  }

  /** Reads what the found messages say. @param {Hit[]} hits @param {string} query @param {number} turn */
  async #fill(hits, query, turn) {
    for (const { conversation, nodes } of hits) {
      if (!nodes.length) continue;
      const found = await this.#shelf.read(conversation).catch(() => null);
      if (turn !== this.#turn) return;
      for (const { id } of nodes) {
        const node = found?.nodes.find((one) => one.id === id);
        const line = this.#list.querySelector(`[data-node="${CSS.escape(id)}"][data-id="${CSS.escape(conversation)}"]`);
        if (!node || !line) continue;
        const text = [node.text ?? '', ...(node.attachments ?? []).map((one) => (one.kind === 'text' ? `${one.name} ${one.data}` : one.name))].join('\n');
        line.replaceChildren(element('span', 'who', node.role === 'user' ? words.you : words.assistant), ...pieces(snippet(text, query)));
      }
    }
  }
}

/** @param {{text: string, marked: boolean}[]} parts */
const pieces = (parts) => parts.map((part) => (part.marked ? element('mark', '', part.text) : document.createTextNode(part.text)));
