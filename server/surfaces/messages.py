"""Anthropic's Messages API in front of every provider: its requests become ours, our chunks become its events.

What it says otherwise: the system text stands apart, tool results are the user's, thoughts are blocks with a signature that must
come back, and the stream is a sequence of opened and closed blocks.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from hybr.server import chat
from hybr.server.body import decode
from hybr.server.errors import RequestError
from hybr.server.spell import written
from hybr.server.surfaces import blocks
from hybr.server.surfaces.chat import together

if TYPE_CHECKING:
    from hybr.server.errors import HybrError
    from hybr.server.providers.base import Call, Ending

SAME = ("model", "stream", "temperature", "top_p", "top_k", "max_tokens")
IGNORED = {
    "metadata",
    "service_tier",
    "container",
    "inference_geo",
    "cache_control",  # a matter of price, not of the answer
    "user_profile_id",
    "workspace_id",
    "diagnostics",
}
KNOWN = {*SAME, *IGNORED, "messages", "system", "stop_sequences", "tools", "tool_choice", "thinking", "output_config"}
ENDS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
EFFORTS = ("low", "medium", "high", "xhigh", "max")
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Messages:
    """The surface."""

    def read(self, raw: bytes) -> tuple[Call, Said]:
        """Return the request in our words, and its voice."""
        body = decode(raw)
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object", code="invalid_json")
        call = chat.checked(inner(body), "")
        return call, Said(call.model)

    def refusal(self, error: HybrError) -> dict[str, Any]:
        """Return the error as Anthropic's clients read it, with our fields beside."""
        ours = error.envelope()["error"]
        return {"type": "error", "error": {**ours, "type": kind(error)}, "request_id": error.request or None}


def kind(error: HybrError) -> str:
    """Return Anthropic's word for an error."""
    return KINDS.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")


def inner(given: dict[str, Any]) -> dict[str, Any]:
    """Return a request in OpenAI's words. Raises RequestError that names the field in Anthropic's."""
    given = {name: value for name, value in given.items() if value is not None}
    if unknown := set(given) - KNOWN:
        name = min(unknown)[:100]
        raise RequestError(f"{name}: Extra inputs are not permitted", code="unknown_field", field=name)
    if "max_tokens" not in given:
        raise RequestError("max_tokens: Field required", code="missing", field="max_tokens")
    body = {name: given[name] for name in SAME if name in given}
    body["messages"] = [*blocks.system(given.get("system")), *blocks.turns(given.get("messages"))]
    if stops := given.get("stop_sequences"):
        body["stop"] = stops
    return body | tooling(given) | thinking(given.get("thinking")) | output(given.get("output_config"))


def tooling(given: dict[str, Any]) -> dict[str, Any]:
    """Return the tools and which may be used."""
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RequestError("tools must be a list of objects", field="tools")
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type", "custom") != "custom" or not isinstance(tool.get("name"), str):
            where = f"tools[{index}]"
            raise RequestError(f"{where} must be a tool of the caller's own, with a name", code="unsupported", field=where)
        function = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
        if tool.get("description"):
            function["description"] = tool["description"]
        found.append({"type": "function", "function": function})
    body: dict[str, Any] = {"tools": found} if found else {}
    if choice is None:
        return body
    words = {"auto": "auto", "any": "required", "none": "none"}
    name = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True:
        body["parallel_tool_calls"] = False
    if name == "tool" and isinstance(choice.get("name"), str):
        return {**body, "tool_choice": {"type": "function", "function": {"name": choice["name"]}}}
    if not isinstance(name, str) or name not in words:
        raise RequestError("tool_choice.type must be auto, any, none or tool", field="tool_choice.type")
    return {**body, "tool_choice": words[name]}


def thinking(given: Any) -> dict[str, Any]:
    """Return how much to think."""
    if given is None:
        return {}
    wanted = given.get("type") if isinstance(given, dict) else None
    if wanted == "disabled":
        return {}
    if wanted == "adaptive":
        return {"reasoning_budget": 0}
    budget = given.get("budget_tokens") if wanted == "enabled" else None
    if isinstance(budget, bool) or not isinstance(budget, int) or not 1024 <= budget <= 1_000_000:
        raise RequestError("thinking.budget_tokens must be a whole number from 1024", field="thinking.budget_tokens")
    return {"reasoning_budget": budget}


def output(given: Any) -> dict[str, Any]:
    """Return the form of the answer."""
    if given is None:
        return {}
    if not isinstance(given, dict) or set(given) - {"format", "effort"}:
        raise RequestError("output_config may have format and effort", field="output_config")
    body: dict[str, Any] = {}
    if (effort := given.get("effort")) is not None:
        chat.word(*EFFORTS)("output_config.effort", effort)
        body["reasoning_effort"] = effort
    if (form := given.get("format")) is not None:
        if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
            raise RequestError("output_config.format must be a json_schema with its schema", field="output_config.format")
        schema = {"name": "answer", "strict": True, "schema": form["schema"]}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def event(name: str, **fields: Any) -> str:
    """Return one event."""
    return f"event: {name}\ndata: {written({'type': name, **fields})}\n\n"


class Said:
    """The voice."""

    beat = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, model: str) -> None:
        self.model = model
        self.id = f"msg_{secrets.token_hex(12)}"
        self._begun = False
        self._open = ""  # the kind of block that is open
        self._signed = False  # whether it is a thought whose signature has come
        self._index = -1
        self._tools: dict[int, int] = {}

    def events(self, chunks: list[dict[str, Any]]) -> bytes:
        """Return chunks as events of blocks."""
        return "".join([self._begin(chunks), *(self._chunk(chunk) for chunk in chunks)]).encode()

    def closing(self, ending: Ending, usage: dict[str, Any] | None) -> bytes:
        """Return the stop reason, the usage, and the end."""
        reason, sequence = stop(ending)
        last = event("message_delta", delta={"stop_reason": reason, "stop_sequence": sequence}, usage=spent(usage))
        return (self._begin([ending.head()]) + self._close() + last + event("message_stop")).encode()

    def failure(self, error: HybrError) -> bytes:
        """Return the error event."""
        return event("error", error={**error.envelope()["error"], "type": kind(error)}).encode()

    def plain(self, chunks: list[dict[str, Any]], ending: Ending, usage: dict[str, Any] | None) -> dict[str, Any]:
        """Return the whole message."""
        message, _ = together(chunks)
        content: list[dict[str, Any]] = []
        content += ({"type": "thinking", "thinking": thought, "signature": signature} for thought, signature in thoughts(chunks))
        if text := message["content"] or message.get("refusal"):
            content.append({"type": "text", "text": text})
        for call in message.get("tool_calls", ()):
            function = call["function"]
            content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments(function)})
        reason, sequence = stop(ending)
        shape = {**self._shape(ending.head()), "content": content, "stop_reason": reason, "stop_sequence": sequence}
        return {**shape, "usage": spent(usage)}

    def _shape(self, head: dict[str, Any]) -> dict[str, Any]:
        return {"id": self.id, "type": "message", "role": "assistant", "model": head.get("model", self.model)}

    def _begin(self, chunks: list[dict[str, Any]]) -> str:
        if self._begun or not chunks:
            return ""
        self._begun = True
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": spent(None)}
        return event("message_start", message={**self._shape(chunks[0]), **empty})

    def _chunk(self, chunk: dict[str, Any]) -> str:
        out = ""
        for choice in chunk.get("choices", ()):
            delta = choice["delta"]
            if said := delta.get("reasoning_content"):
                if self._signed:  # a thought that has its signature is over: this is the next
                    out += self._close()
                out += self._piece("thinking", {"thinking": "", "signature": ""}, "thinking_delta", thinking=said)
            if said := delta.get("reasoning_signature"):
                out += self._piece("thinking", {"thinking": "", "signature": ""}, "signature_delta", signature=said)
                self._signed = True
            if said := delta.get("content") or delta.get("refusal"):
                out += self._piece("text", {"text": ""}, "text_delta", text=said)
            for piece in delta.get("tool_calls") or ():
                out += self._tool(piece)
        return out

    def _piece(self, kind: str, empty: dict[str, Any], delta: str, **fields: Any) -> str:
        begun = "" if self._open == kind else self._close() + self._start(kind, **empty)
        return begun + event("content_block_delta", index=self._index, delta={"type": delta, **fields})

    def _tool(self, piece: dict[str, Any]) -> str:
        out, function = "", piece["function"]
        if piece["index"] not in self._tools:
            told = piece.get("id") or f"toolu_{secrets.token_hex(8)}"
            out += self._close() + self._start("tool_use", id=told, name=function.get("name", ""), input={})
            self._tools[piece["index"]] = self._index
        if said := function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": said}
            out += event("content_block_delta", index=self._tools[piece["index"]], delta=delta)
        return out

    def _start(self, kind: str, **fields: Any) -> str:
        self._open = kind
        self._index += 1
        return event("content_block_start", index=self._index, content_block={"type": kind, **fields})

    def _close(self) -> str:
        was, self._open, self._signed = self._open, "", False
        return event("content_block_stop", index=self._index) if was else ""


def thoughts(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the thoughts with their signatures, each for itself: a signature holds for its own thought only.

    Newer models keep a thought's text to themselves, and want its signature back all the same.
    """
    found: list[tuple[str, str]] = []
    for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
        text, signature = delta.get("reasoning_content", ""), delta.get("reasoning_signature", "")
        if (text or signature) and (not found or (text and found[-1][1])):
            found.append((text, signature))
        elif text or signature:
            found[-1] = (found[-1][0] + text, found[-1][1] + signature)
    return found


def arguments(function: dict[str, Any]) -> Any:
    """Return a tool call's arguments as the object they are; what a model wrote wrongly stays readable as a text."""
    try:
        found = json.loads(function["arguments"] or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"arguments": function["arguments"]}


def stop(ending: Ending) -> tuple[str, str | None]:
    """Return why the answer ended, and the stop text that ended it where that is known."""
    sequence = ending.extra.get("stop_sequence")
    return ("stop_sequence", sequence) if sequence else (ENDS.get(ending.finish or "", "end_turn"), None)


def spent(usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return the usage: here cached tokens stand beside the input's and not within."""
    usage = usage or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    shape = {"input_tokens": usage.get("prompt_tokens", 0) - cached, "output_tokens": usage.get("completion_tokens", 0)}
    shape |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}
    return {**shape, "cost": usage["cost"]} if "cost" in usage else shape
