/**
 * Reads conversations back from Markdown: our own (markdown.js says what its comments mean), with its branches; and other programs', where
 * headings or bold lines name who speaks. What Markdown does not hold (figures, settings, pictures) is not there afterwards.
 */

import { OURS } from './markdown.js';
import { hashed } from './rows.js';

/** @typedef {{row: Record<string, any>, nodes: any[]}} Found `nodes` may have `lost`, how many pictures are not in the file */
/** @typedef {{kind: string, label: string, rest: string[], from: number, to: number}} Head of a part: where its line begins and ends */

const HEAD = /^#{1,2} (.*) <!-- hybr (chat|branch|user|assistant|system)((?: [^\s]+)*) -->$/gm;
const FILE = /^\*\*(.*)\*\* <!-- hybr file (.*?) -->\n\n(`{3,})\n/;
const PICTURE = /^\*.*\* <!-- hybr picture -->(?:\n\n|$)/;
/** What stands before the next part, and is not the text's. */
const BEFORE = /** @type {Record<string, RegExp>} */ ({ chat: /\n{1,3}$/, branch: /\n\n---\n\n$/ });

/** @param {string} text @returns {Found[]} none where nobody speaks in it */
export function unmarkdown(text) {
  const same = / <!-- hybr chat [^\n]*-->\r\n/.test(text) ? text.replace(/\r\n/g, '\n') : text;
  const heads = [...same.matchAll(HEAD)].map((found) => ({
    label: found[1] ?? '', kind: found[2] ?? '', rest: (found[3] ?? '').split(' ').slice(1), from: found.index, to: found.index + found[0].length,
  }));
  const own = heads.some(({ kind }) => kind === 'chat');
  return own ? ours(same, heads) : theirs(text.replace(/\r\n?/g, '\n'));
}

/** @param {string} text @param {Head[]} heads @returns {Found[]} */
function ours(text, heads) {
  /** @type {Found[]} */
  const found = [];
  let [shown, above] = [true, /** @type {string|null} */ (null)];
  for (const [index, head] of heads.entries()) {
    const one = found.at(-1);
    if (head.kind === 'chat') {
      found.push({ row: chat(head), nodes: [] });
      [shown, above] = [true, null];
    } else if (head.kind === 'branch') shown = false;
    else if (one) {
      const [id = '', at, place, parent = null] = head.rest;
      const next = heads[index + 1];
      one.nodes.push({ id, parent: place === 'after' ? parent : place === 'start' ? null : above, role: head.kind, ...model(head), createdAt: Number(at), ...body(text, head, next) });
      above = id;
      if (shown) one.row.leaf = id;
    }
  }
  return found;
}

/** @param {Head} head */
function chat({ label, rest: [id = '', createdAt, updatedAt] }) {
  return { id, title: label, titled: true, createdAt: Number(createdAt), updatedAt: Number(updatedAt), leaf: null };
}

/** @param {Head} head */
function model({ kind, label }) {
  const [, named] = /^[^(]* \((.*)\)$/.exec(label) ?? [];
  return kind === 'assistant' && named ? { model: named } : {};
}

/** @param {string} text @param {Head} head @param {Head|undefined} next */
function body(text, head, next) {
  const end = next ? (BEFORE[next.kind] ?? /\n{1,2}$/) : /\n$/;
  let rest = text.slice(head.to, next?.from).replace(/^\n{1,2}/, '').replace(end, '');
  const attachments = [];
  let lost = 0;
  for (let more = true; more; ) {
    const [picture, file] = [PICTURE.exec(rest), FILE.exec(rest)];
    const close = file ? rest.indexOf(`\n${file[3]}`, file[0].length) : -1;
    more = picture !== null || close >= 0;
    if (picture) {
      lost += 1;
      rest = rest.slice(picture[0].length);
    } else if (file && close >= 0) {
      attachments.push({ kind: 'text', name: file[1], mime: file[2], data: rest.slice(file[0].length, close) });
      rest = rest.slice(close + 1 + (file[3] ?? '').length).replace(/^\n\n/, '');
    }
  }
  return { text: rest.replace(UNDO, '$1'), attachments, lost };
}

const UNDO = new RegExp(`^\\\\${OURS.source.slice(1)}`, 'gm');

// -- other programs'

const WHO = {
  user: 'you|user|human|me|prompt|question|du|ich|benutzer|nutzer|mensch|frage',
  assistant: 'assistant|chatgpt|gpt[\\w.-]*|claude|gemini|copilot|llama|bot|ai|model|response|answer|assistent|antwort|modell|ki',
  system: 'system',
};
const SPEAKER = new RegExp(`^(?:#{1,6} +\\**|\\*\\*)(?:(${WHO.user})|(${WHO.assistant})|(${WHO.system}))(?: \\(([^()]*)\\))?:?\\**:?[ \\t]*$`, 'i');

/** @param {string} text @returns {Found[]} */
function theirs(text) {
  /** @type {{role: string, model: string|null, lines: string[]}[]} */
  const parts = [];
  let [title, fence] = ['', ''];
  for (const line of text.split('\n')) {
    const [, run = ''] = /^ {0,3}(`{3,}|~{3,})/.exec(line) ?? [];
    const speaks = fence ? null : SPEAKER.exec(line);
    const [, you, assistant, , named] = speaks ?? [];
    if (speaks) parts.push({ role: you ? 'user' : assistant ? 'assistant' : 'system', model: (assistant && named) || null, lines: [] });
    else if (parts.length) parts.at(-1)?.lines.push(line);
    else title ||= /^# +(.+)/.exec(line)?.[1]?.trim() ?? '';
    if (run && !fence) fence = run;
    else if (run.startsWith(fence) && !line.trim().slice(run.length)) fence = '';
  }
  if (!parts.some(({ role }) => role === 'user') || parts.length < 2) return [];
  const id = hashed(text);
  const nodes = parts.map(({ role, model: named, lines }, index) => ({
    id: `${id}-${index}`, parent: index ? `${id}-${index - 1}` : null, role, ...(named ? { model: named } : {}), text: lines.join('\n').trim(),
  }));
  return [{ row: { id, title, titled: title !== '', leaf: nodes.at(-1)?.id ?? null }, nodes }];
}
