/**
 * The shape asked of an answer, from OpenAI's words to those WebLLM 0.2.86 obeys.
 *
 * WebLLM constrains on `{type: 'json_object', schema: text}` alone: without a schema its grammar compiler is given undefined and
 * fails, and OpenAI's `json_schema` is not known to it, so that free text would come back as if it were what was asked for.
 */

import {EngineError} from './errors.js';

/** What `json_object` promises: an object, with whatever is in it. */
const ANY_OBJECT = '{"type":"object"}';

/**
 * @param {unknown} asked `response_format` as the caller gave it
 * @returns {Record<string, unknown>|undefined} WebLLM's; undefined for plain text. Kinds of WebLLM's own (grammar) pass as they are
 * @throws {EngineError} InvalidResponseFormatError of phase validate, where `json_schema` has no schema
 */
export function formatOf(asked) {
  const form = /** @type {{type?: unknown, schema?: unknown, json_schema?: {schema?: unknown}}} */ (asked);
  if (form?.type === 'text') return undefined;
  if (form?.type !== 'json_object' && form?.type !== 'json_schema') return /** @type {Record<string, unknown>} */ (asked);
  const schema = form.json_schema?.schema ?? form.schema ?? (form.type === 'json_object' ? ANY_OBJECT : undefined);
  if (typeof schema === 'string') return {type: 'json_object', schema};
  if (schema && typeof schema === 'object') return {type: 'json_object', schema: JSON.stringify(schema)};
  throw new EngineError(
    'InvalidResponseFormatError', 'response_format has no schema: give json_schema: {name, schema}.', 'validate', {field: 'response_format.json_schema'},
  );
}
