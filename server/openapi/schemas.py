"""The shapes that go over the wire, as JSON Schema. Objects are open where the server may say more one day."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SWITCH: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """Point at a shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def maybe(one: Schema) -> Schema:
    """Allow null."""
    return {"anyOf": [one, {"type": "null"}]}


def array(one: Schema, **more: Any) -> Schema:
    """Return a list of one shape."""
    return {"type": "array", "items": one, **more}


def shape(needed: dict[str, Schema], optional: dict[str, Schema] | None = None, **more: Any) -> Schema:
    """Return an object's shape."""
    return {"type": "object", "required": list(needed), "properties": {**needed, **(optional or {})}, **more}


def listed(one: Schema) -> Schema:
    """Return OpenAI's list."""
    return shape({"object": {"const": "list"}, "data": array(one)})


def numbers(low: float, high: float) -> Schema:
    """Return a number in bounds."""
    return {"type": "number", "minimum": low, "maximum": high}


ROLE: Schema = {"enum": ["system", "developer", "user", "assistant", "tool"]}
SAID = {"content": {}, "name": TEXT, "tool_calls": array(ANYTHING), "tool_call_id": TEXT, "reasoning_content": TEXT}
MESSAGE = shape({"role": ROLE}, {**SAID, "refusal": maybe(TEXT)})
TOKENS = {"type": "integer", "minimum": 1, "maximum": 1_000_000}

SCHEMAS: dict[str, Schema] = {
    "Error": shape(
        {
            "error": shape(
                {"message": TEXT, "type": TEXT, "code": TEXT, "retryable": SWITCH, "attempts": COUNT},
                {
                    "field": TEXT,
                    "provider": TEXT,
                    "breaker": {"enum": ["closed", "open", "half-open"]},
                    "request_id": TEXT,
                    "retry_after": COUNT,
                },
            )
        },
        description="Every refusal and failure. `retryable` says whether asking again can help, `attempts` how often we did.",
    ),
    "AnthropicError": shape(
        {"type": {"const": "error"}, "error": shape({"type": TEXT, "message": TEXT})}, {"request_id": maybe(TEXT)}
    ),
    "Usage": shape(
        {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
        {"prompt_tokens_details": ANYTHING, "completion_tokens_details": ANYTHING, "cost": {**NUMBER, "description": "USD"}},
    ),
    "Chat": shape(
        {"messages": array(MESSAGE, minItems=1)},
        {
            "model": {**TEXT, "minLength": 1, "maxLength": 200},
            "stream": SWITCH,
            "stream_options": shape({}, {"include_usage": SWITCH, "include_obfuscation": SWITCH}, additionalProperties=False),
            "temperature": numbers(0, 2),
            "top_p": numbers(0, 1),
            "top_k": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
            "presence_penalty": numbers(-2, 2),
            "frequency_penalty": numbers(-2, 2),
            "max_tokens": TOKENS,
            "max_completion_tokens": TOKENS,
            "seed": WHOLE,
            "stop": {"anyOf": [{**TEXT, "minLength": 1}, array({**TEXT, "minLength": 1}, maxItems=16)]},
            "n": {"const": 1},
            "logit_bias": ANYTHING,
            "logprobs": SWITCH,
            "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
            "response_format": shape({"type": {"enum": ["text", "json_object", "json_schema"]}}, {"json_schema": ANYTHING}),
            "tools": array(ANYTHING),
            "tool_choice": {"anyOf": [TEXT, ANYTHING]},
            "parallel_tool_calls": SWITCH,
            "modalities": {"const": ["text"]},
            "verbosity": {"enum": ["low", "medium", "high"]},
            "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max"]},
        },
    ),
    "Completion": shape(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": WHOLE,
            "model": TEXT,
            "choices": array(shape({"index": WHOLE, "message": ANYTHING, "finish_reason": maybe(TEXT)})),
        },
        {"usage": ref("Usage"), "timings": ANYTHING},
    ),
    "Messages": shape(
        {"max_tokens": TOKENS, "messages": array(shape({"role": {"enum": ["user", "assistant"]}, "content": {}}), minItems=1)},
        {
            "model": TEXT,
            "system": {},
            "stream": SWITCH,
            "temperature": numbers(0, 2),
            "top_p": numbers(0, 1),
            "top_k": COUNT,
            "stop_sequences": array(TEXT, maxItems=16),
            "tools": array(ANYTHING),
            "tool_choice": ANYTHING,
            "thinking": ANYTHING,
            "output_config": ANYTHING,
            "metadata": ANYTHING,
        },
    ),
    "Message": shape(
        {
            "id": TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": TEXT,
            "content": array(ANYTHING),
            "stop_reason": TEXT,
            "stop_sequence": maybe(TEXT),
            "usage": shape({"input_tokens": COUNT, "output_tokens": COUNT}, {"cost": NUMBER}),
        }
    ),
    "Count": shape(
        {"messages": array(shape({"role": {"enum": ["user", "assistant"]}, "content": {}}), minItems=1)},
        {"model": TEXT, "system": {}, "tools": array(ANYTHING), "tool_choice": ANYTHING, "thinking": ANYTHING},
    ),
    "Counted": shape({"input_tokens": COUNT}),
    "Embed": shape(
        {
            "model": {**TEXT, "minLength": 1, "maxLength": 200},
            "input": {"anyOf": [{**TEXT, "minLength": 1}, array({**TEXT, "minLength": 1}, minItems=1, maxItems=2048)]},
        },
        {
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": "integer", "minimum": 1, "maximum": 65536},
            "user": TEXT,
        },
        additionalProperties=False,
    ),
    "Embeddings": shape(
        {
            "object": {"const": "list"},
            "model": TEXT,
            "data": array(shape({"object": {"const": "embedding"}, "index": COUNT, "embedding": {}})),
            "usage": ANYTHING,
        }
    ),
    "Model": shape(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": COUNT,
            "owned_by": TEXT,
            "name": TEXT,
            "context_length": {**COUNT, "description": "tokens, 0 where it is not known"},
            "max_output_tokens": maybe(COUNT),
            "input_modalities": array(TEXT),
            "output_modalities": array(TEXT),
            "capabilities": shape({"prefill": SWITCH, "tools": SWITCH, "images": SWITCH}),
        },
        {"pricing": ANYTHING},
    ),
    "Models": listed(ref("Model")),
    "Provider": shape(
        {"name": TEXT, "kind": TEXT, "available": SWITCH, "reason": maybe(TEXT), "models": COUNT},
        {"breaker": {"enum": ["closed", "open", "half-open"]}},
    ),
    "Providers": listed(ref("Provider")),
    "Key": shape(
        {"provider": TEXT, "set": SWITCH, "source": {"enum": ["person", "operator", "none"]}, "suspect": SWITCH},
        {"checked": TEXT},
        description="Whether there is a key. The key itself is never shown.",
    ),
    "Keys": listed(ref("Key")),
    "NewKey": shape({"key": {**TEXT, "minLength": 1, "maxLength": 4096}}, additionalProperties=False),
    "Preferences": shape({"version": COUNT, "preferences": ANYTHING}),
    "Session": shape({"auth": {"enum": ["token", "accounts", "off"]}, "owner": TEXT, "role": TEXT, "token": maybe(TEXT)}),
    "Entry": shape({}, {"token": TEXT, "name": TEXT, "password": TEXT}),
    "Entered": shape({"auth": TEXT}),
    "Ended": shape({"ended": SWITCH}),
    "Health": shape({"status": TEXT}),
    "Catalogue": shape({"schema": WHOLE, "models": array(ANYTHING)}),
    "Prices": shape({"version": TEXT, "currency": {"const": "USD"}, "models": ANYTHING}),
    "Spending": shape(
        {"from": TEXT, "to": TEXT, "group": TEXT, "currency": TEXT, "data": array(ANYTHING), "total": ANYTHING}, {"limits": {}}
    ),
    "Events": shape({"events": array(ANYTHING, maxItems=100)}, additionalProperties=False),
    "Forgotten": shape({"forgotten": SWITCH}),
    "Taken": shape({"taken": COUNT}),
    "Summary": shape({"from": TEXT, "to": TEXT, "group": TEXT, "data": array(ANYTHING)}),
    "Blobs": shape(
        {"blobs": array(ANYTHING), "version": COUNT, "more": SWITCH, "complete": SWITCH, "bytes": COUNT, "count": COUNT}
    ),
    "Blob": shape({"name": TEXT, "version": COUNT}, {"bytes": COUNT, "deleted": SWITCH}),
}
