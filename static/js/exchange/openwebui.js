/**
 * Open WebUI's export: a list of `{id, title, chat, created_at, updated_at, pinned}`, where `chat.history` is the tree:
 * `{messages: {id: {id, parentId, role, content, timestamp, model, files}}, currentId}`. Old files have the list `chat.messages` only.
 * Times are seconds; those of `chat` itself milliseconds. Reasoning and tools' work stand in the text as `<details type="...">`.
 */

import { plain } from './rows.js';

/** @param {Record<string, any>} element */
export function isOpenWebUi(element) {
  const chat = chatOf(element);
  return (plain(chat.history) && plain(chat.history.messages)) || (Array.isArray(chat.messages) && !('mapping' in element));
}

/** @param {Record<string, any>} element @returns {{row: Record<string, any>, nodes: any[]}} */
export function fromOpenWebUi(element) {
  const chat = chatOf(element);
  const tree = plain(chat.history) && plain(chat.history.messages) ? chat.history : null;
  const nodes = tree ? Object.entries(tree.messages).map(([id, message]) => node(message, id)) : chained(chat.messages);
  const title = typeof element.title === 'string' ? element.title : typeof chat.title === 'string' ? chat.title : '';
  const createdAt = ms(element.created_at ?? chat.timestamp);
  const row = {
    id: element.id ?? chat.id ?? { title, createdAt },
    title,
    titled: title !== '' && title !== 'New Chat',
    createdAt,
    updatedAt: ms(element.updated_at) ?? createdAt,
    pinned: element.pinned === true,
    leaf: tree ? tree.currentId : (nodes.at(-1)?.id ?? null),
    settings: system(chat),
  };
  return { row, nodes };
}

/** @param {Record<string, any>} element */
const chatOf = (element) => (plain(element.chat) ? element.chat : element);

/** @param {Record<string, any>} chat @returns {Record<string, unknown>} what was said to the model before all else */
function system(chat) {
  const text = (plain(chat.params) && chat.params.system) || chat.system;
  return typeof text === 'string' && text.trim() ? { system: text } : {};
}

/** @param {unknown} value seconds, milliseconds or (in some editions) nanoseconds since 1970 */
function ms(value) {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) return undefined;
  return Math.round(value < 1e11 ? value * 1000 : value < 1e14 ? value : value / 1e6);
}

/** @param {any[]} messages a plain list: each under the one before it */
function chained(messages) {
  /** @type {string|null} */
  let parent = null;
  return messages.map((message, index) => {
    const made = node(plain(message) ? { ...message, parentId: parent } : message, `message-${index}`);
    parent = plain(made) ? made.id : parent;
    return made;
  });
}

/** @param {any} message @param {string} key */
function node(message, key) {
  if (!plain(message)) return message;
  const createdAt = ms(message.timestamp);
  const { text, thought } = told(typeof message.content === 'string' ? message.content : parts(message.content), message.role);
  const why = plain(message.error) ? message.error.content : message.error;
  return {
    id: typeof message.id === 'string' ? message.id : key,
    parent: message.parentId ?? null,
    role: message.role,
    text,
    ...(thought ? { thought } : {}),
    ...(typeof why === 'string' && why ? { error: { name: 'Error', message: why } } : {}),
    state: message.done === false ? 'stopped' : message.error ? 'error' : 'done',
    model: typeof message.model === 'string' ? message.model : null,
    ...(createdAt === undefined ? {} : { createdAt }),
    attachments: (Array.isArray(message.files) ? message.files : []).map(attachment),
  };
}

const DETAILS = /<details type="(\w+)"[^>]*>\s*(?:<summary>([\s\S]*?)<\/summary>)?([\s\S]*?)<\/details>\s*/g;
const NAMED = /** @type {Record<string, string>} */ ({ amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'", '#x27': "'" });

/** @param {string} text */
const unescaped = (text) => text.replace(/&(amp|lt|gt|quot|#39|#x27);/g, (_, name) => NAMED[name] ?? '');

/**
 * Tells what a model thought from what it said.
 * @param {unknown} content
 * @param {unknown} role
 * @returns {{text: any, thought: string}}
 */
function told(content, role) {
  if (typeof content !== 'string' || role !== 'assistant') return { text: content, thought: '' };
  /** @type {string[]} */
  const thoughts = [];
  const text = content.replace(DETAILS, (_, kind, summary = '', body = '') => {
    const inner = unescaped(body).replace(/^> ?/gm, '').trim();
    if (kind === 'reasoning') return thoughts.push(inner), '';
    return `*${unescaped(summary).trim() || kind}*\n\n${inner ? `${inner}\n\n` : ''}`;
  });
  return { text: thoughts.length ? text.trimStart() : text, thought: thoughts.filter(Boolean).join('\n\n') };
}

/** OpenAI's list of parts, its texts. @param {unknown} content @returns {unknown} as it is where it is something else */
function parts(content) {
  if (!Array.isArray(content)) return content;
  return content.flatMap((one) => (plain(one) && typeof one.text === 'string' ? [one.text] : [])).join('\n\n');
}

/** @param {any} file @returns {Record<string, any>} what rows.js takes, or lets go of with a word */
function attachment(file) {
  if (!plain(file)) return {};
  if (file.type === 'image') return { kind: 'image', name: file.name ?? '', data: file.url };
  const content = file.file?.data?.content ?? file.content;
  return { kind: 'text', name: file.name ?? file.file?.filename ?? '', mime: file.file?.meta?.content_type, data: content };
}
