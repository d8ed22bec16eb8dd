"""Tools for a model whose engine knows none: they are told in words, and the calls are read out of the text.

The words are those that most open models were trained on: the functions as JSON between `<tools>` tags, a call as JSON between
`<tool_call>` tags. Of what comes back, text is shown as it comes; from the first sign of a call on (the tag, or JSON at the very
beginning of the answer, which small models write without the tag) nothing is, until it is known to be one. What turns out to be
no call is shown after all, unless a call was demanded: then the answer is of no use, and is asked for once more or elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import LocalError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Call, Message, Options

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FENCE = "```"


def told(call: Call) -> Call:
    """The call with its tools in its messages, and none in its options."""
    options = call.options
    first, *rest = call.messages
    system = [first["content"]] if first["role"] == "system" else []
    turns = rest if system else [first, *rest]
    words = "\n\n".join([*map(_text, system), _words(options)])
    spelt = [_spelt(turn, call.messages) for turn in turns]
    form = options.response_format or _form(options)
    plain = replace(options, tools=(), tool_choice=None, response_format=form)
    return replace(call, messages=({"role": "system", "content": words}, *_merged(spelt)), options=plain)


def must(options: Options) -> bool:
    """Whether an answer without a call is of no use."""
    return options.tool_choice is not None and options.tool_choice not in ("none", "auto")


def _named(options: Options) -> tuple[dict[str, Any], ...]:
    """The tools that may be called."""
    choice = options.tool_choice
    wanted = choice["function"]["name"] if isinstance(choice, dict) else None
    return tuple(tool for tool in options.tools if wanted in {None, tool["function"]["name"]})


def _words(options: Options) -> str:
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in _named(options))
    when = "You must call one of them." if must(options) else "Call one only where it helps; else answer in plain text."
    return (
        f"You can call these functions:\n<tools>\n{functions}\n</tools>\n{when} To call a function, answer with nothing but\n"
        f'{OPEN}{{"name": "...", "arguments": {{...}}}}{CLOSE}\nand wait for its result.'
    )


def _form(options: Options) -> dict[str, Any] | None:
    """Where a call is demanded, the engine can hold the model to its form."""
    if not must(options):
        return None
    forms = [
        {
            "type": "object",
            "properties": {
                "name": {"enum": [tool["function"]["name"]]},
                "arguments": tool["function"].get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
        }
        for tool in _named(options)
    ]
    whole = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": whole}}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if part["type"] == "text")


def _spelt(turn: Message, messages: tuple[Message, ...]) -> Message:
    """A turn as a model reads it that knows no tools: calls and results are text."""
    if turn["role"] == "tool":
        name = next((one["function"]["name"] for one in _calls(messages) if one["id"] == turn["tool_call_id"]), "")
        result = json.dumps({"name": name, "content": _text(turn["content"])}, ensure_ascii=False)
        return {"role": "user", "content": f"<tool_response>\n{result}\n</tool_response>"}
    if not turn.get("tool_calls"):
        return {name: value for name, value in turn.items() if name in {"role", "content"}}
    calls = [f"{OPEN}{_call_text(one)}{CLOSE}" for one in turn["tool_calls"]]
    said = [_text(turn["content"])] if turn["content"] else []
    return {"role": "assistant", "content": "\n".join([*said, *calls])}


def _call_text(call: dict[str, Any]) -> str:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = function["arguments"]
    return json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)


def _calls(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [call for message in messages for call in message.get("tool_calls") or ()]


def _merged(turns: list[Message]) -> list[Message]:
    """Neighbours of one role as one turn: chat templates want roles to alternate."""
    merged: list[Message] = []
    for turn in turns:
        last = merged[-1] if merged else None
        if last and last["role"] == turn["role"] and isinstance(last["content"], str) and isinstance(turn["content"], str):
            merged[-1] = {**last, "content": f"{last['content']}\n{turn['content']}"}
        else:
            merged.append(turn)
    return merged


class Reader:
    """Reads an answer piece by piece: gives back what may be shown, and keeps what may be a call."""

    def __init__(self, options: Options, request_id: str) -> None:
        self._names = {tool["function"]["name"] for tool in _named(options)}
        self._must = must(options)
        self._request_id = request_id
        self._held = ""
        self._shown = False

    def feed(self, delta: str) -> str:
        """What of the text so far may be shown now."""
        self._held += delta
        if self._must:
            return ""
        if (begins := self._held.find(OPEN)) >= 0:
            return self._release(begins)
        if self._may_begin_bare():
            return ""
        keep = next((size for size in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:size])), 0)
        return self._release(len(self._held) - keep)

    def end(self) -> tuple[str, tuple[dict[str, Any], ...]]:
        """The rest of the text, and the calls. Raises LocalError where a call was demanded or begun and there is none."""
        text, calls = self._held.strip(), [call for text in self._bodies() if (call := self._call(text))]
        if calls:
            return "", tuple(_wire(call, self._request_id, index) for index, call in enumerate(calls))
        if self._must or OPEN in text:
            raise _none()
        return self._held, ()

    def _may_begin_bare(self) -> bool:
        head = self._held.lstrip()
        return not self._shown and (head.startswith(("{", FENCE)) or (bool(head) and FENCE.startswith(head)))

    def _release(self, size: int) -> str:
        text, self._held = self._held[:size], self._held[size:]
        self._shown = self._shown or bool(text.strip())
        return text

    def _bodies(self) -> list[str]:
        """What may be the JSON of a call, call by call."""
        if OPEN in self._held:
            return [piece.partition(CLOSE)[0].strip() for piece in self._held.split(OPEN)[1:]]
        text = self._held.strip()
        if text.startswith(FENCE):
            text = text.removeprefix(FENCE).removeprefix("json").partition(FENCE)[0].strip()
        return [text]

    def _call(self, text: str) -> dict[str, Any] | None:
        """The call that it spells, of a function that there is."""
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
        except ValueError:
            return None
        if not isinstance(found, dict) or found.get("name") not in self._names:
            return None
        arguments = found.get("arguments", found.get("parameters", {}))
        return {"name": found["name"], "arguments": arguments if isinstance(arguments, dict) else {}}


def _wire(call: dict[str, Any], request_id: str, index: int) -> dict[str, Any]:
    """As OpenAI has it."""
    function = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
    return {"id": f"call-{request_id}-{index}", "type": "function", "function": function}


def _none() -> LocalError:
    message = "The local model was to call a tool, and what it made is no call."
    error = LocalError(message, name="ToolCallOutputParseError", code="bad_tool_call", phase="decode", kind="capability")
    error.reactions = ("retry", "cloud")
    return error
