"""The orchestrator as a set of tools that a model or a script may call: seven for the hybrid provider, five for the local model.

Each has a declaration (`TOOLS`, JSON schema, as OpenAI's `tools` want it) and answers with an object: `{"success": true, ...}`,
or `{"success": false, "error": {name, message, code}}`. None of them ever raises but for cancellation, and none can do more than
the interface that people use.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import HybridError, OptionError
from hybr.webapp.hybrid.types import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.provider import HybridLLMProvider

log = logging.getLogger(__name__)

TEXT, FLAG, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number"}
MESSAGES = {"type": "array", "items": {"type": "object"}, "description": "a conversation: [{role, content}]"}
PROMPT = {**TEXT, "description": "one question, in place of messages"}
SIDE = {"type": "string", "enum": ["local", "cloud"]}
NO_SIDE = {"type": ["string", "null"], "enum": ["local", "cloud", None]}
MODEL = {**TEXT, "description": "a model's id"}
OPTIONS = {"type": "object", "description": "options of the request, as complete() takes them"}


def _tool(name: str, description: str, required: str = "", **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS: tuple[dict[str, Any], ...] = (
    _tool("route_request", "Answer by whichever side the routing chooses.", messages=MESSAGES, prompt=PROMPT, options=OPTIONS),
    _tool("get_routing_strategy", "The mode in force and the settings of automatic routing."),
    _tool("set_strategy", "Change the mode, or settings of automatic routing.", mode={**TEXT, "enum": list(MODES)}, auto=OPTIONS),
    _tool("get_provider_status", "Whether the local model and the cloud can be asked, and how they fare."),
    _tool("force_provider", "Use one side only, until told otherwise (null: as before).", "provider", provider=NO_SIDE),
    _tool("get_usage_stats", "Requests, tokens, errors, times and cost by side and model."),
    _tool("check_availability", "Whether a side, or a model, could answer now.", provider=SIDE, model=MODEL),
    _tool("load_model", "Load a local model; returns when it is ready.", "model", model=MODEL),
    _tool("unload_model", "Free the local model's memory."),
    _tool("list_loaded_models", "The local models: which is loaded, which are in the browser, which fit."),
    _tool("get_model_status", "The state of the local model, or what is known of one of them.", model=MODEL),
    _tool("infer", "Answer by the local model only.", messages=MESSAGES, prompt=PROMPT, options=OPTIONS),
)
NAMES = tuple(tool["function"]["name"] for tool in TOOLS)


class Tools:
    """See the module."""

    def __init__(self, hybrid: HybridLLMProvider, local: LocalLLM) -> None:
        self._hybrid = hybrid
        self._local = local
        self._before: str | None = None
        self._functions: dict[str, Callable[..., Any]] = {name: getattr(self, f"_{name}") for name in NAMES}

    async def call(self, name: object, arguments: object = None) -> dict[str, Any]:
        """Call a tool by name. Never raises but for cancellation."""
        try:
            given = _checked(name, {} if arguments is None else arguments)
            value = self._functions[str(name)](**given)
            return {"success": True, **(await value if inspect.isawaitable(value) else value)}
        except HybridError as error:
            return {"success": False, "error": error.to_dict()}
        except Exception as error:
            log.exception("the tool %s failed", name)
            told = {"name": type(error).__name__, "message": f"Something in this page is broken: {error!r}", "code": "internal"}
            return {"success": False, "error": told}

    # -- the hybrid provider

    async def _route_request(self, messages: Any = None, prompt: Any = None, options: Any = None) -> dict[str, Any]:
        done = await self._hybrid.complete(_asked(messages, prompt), options)
        return {"result": done.to_dict()}

    def _get_routing_strategy(self) -> dict[str, Any]:
        hybrid = self._hybrid
        return {"mode": hybrid.get_mode(), "preferred_mode": hybrid.preferred_mode, "auto": hybrid.get_auto_switch_config()}

    def _set_strategy(self, mode: Any = None, auto: Any = None) -> dict[str, Any]:
        if mode is None and auto is None:
            raise OptionError("Give a mode, settings of auto, or both.", field="mode")
        if auto is not None:
            self._hybrid.set_auto_switch_config(auto)
        if mode is not None and not self._hybrid.set_mode(mode, remember=False):
            raise OptionError(f"The mode {mode!r} cannot be put in force now: {self._why_not(mode)}", field="mode")
        return self._get_routing_strategy()

    def _why_not(self, mode: object) -> str:
        if mode not in MODES:
            return f"there is no such mode; there are: {', '.join(MODES)}."
        return self._local.unavailable().message

    def _get_provider_status(self) -> dict[str, Any]:
        return {"status": self._hybrid.get_status()}

    def _force_provider(self, provider: Any) -> dict[str, Any]:
        before = self._hybrid.get_mode()
        if provider is None:
            mode, self._before = self._before or before, None
        else:
            mode, self._before = f"{provider}-only", self._before or before
        if not self._hybrid.set_mode(mode, remember=False):
            raise OptionError(f"The mode {mode!r} cannot be put in force now: {self._why_not(mode)}", field="provider")
        return {"mode": self._hybrid.get_mode(), "forced": provider}

    def _get_usage_stats(self) -> dict[str, Any]:
        return {"stats": self._hybrid.get_usage_stats()}

    async def _check_availability(self, provider: Any = None, model: Any = None) -> dict[str, Any]:
        status = self._hybrid.get_status()
        sides = {"local": status["local_available"], "cloud": status["cloud_available"]}
        reasons = {"local": "" if sides["local"] else self._local.unavailable().message, "cloud": status["cloud_reason"]}
        if model is not None:
            has = await self._hybrid.sides_of(model)
            sides = {side: side in has and (side == "cloud" or model == status["local_model"]) and sides[side] for side in sides}
        if provider is not None:
            return {"available": sides[provider], "reason": reasons[provider]}
        return {"available": any(sides.values()), "providers": sides, "reasons": reasons}

    # -- the local model

    async def _load_model(self, model: Any) -> dict[str, Any]:
        result = await self._local.init(model)
        if isinstance(result, dict):
            return result
        return {"model": self._local.model, "status": self._local.get_status()}

    async def _unload_model(self) -> dict[str, Any]:
        return {"unloaded": await self._local.unload()}

    def _list_loaded_models(self) -> dict[str, Any]:
        models = self._local.get_available_models()
        short = [
            {name: model.get(name) for name in ("id", "name", "state", "bytes", "cached", "loaded", "fits")} for model in models
        ]
        return {"loaded": [model["id"] for model in models if model["loaded"]], "models": short}

    async def _get_model_status(self, model: Any = None) -> dict[str, Any]:
        if model is None:
            return {"status": self._local.get_status()}
        if not await self._local.lists(model):
            raise OptionError(f"There is no local model {model!r}.", field="model")
        return {"status": next(one for one in self._local.get_available_models() if one["id"] == model)}

    async def _infer(self, messages: Any = None, prompt: Any = None, options: Any = None) -> dict[str, Any]:
        done = await self._hybrid.complete_local(_asked(messages, prompt), options)
        return {"result": done.to_dict()}


def _asked(messages: Any, prompt: Any) -> Any:
    if (messages is None) == (prompt is None):
        raise OptionError("Give either messages or prompt.", field="messages")
    return messages if prompt is None else [{"role": "user", "content": prompt}]


def _checked(name: object, given: object) -> dict[str, Any]:
    """The arguments: their names, and the values of closed lists; what the tool calls looks at types. Raises OptionError."""
    if name not in NAMES:
        raise OptionError(f"There is no tool {name!r}. There are: {', '.join(NAMES)}.", field="name")
    if not isinstance(given, dict):
        raise OptionError("arguments must be an object.", field="arguments")
    schema = TOOLS[NAMES.index(name)]["function"]["parameters"]
    for field in schema["required"]:
        if field not in given:
            raise OptionError(f"{name} needs {field}.", field=field)
    for field, value in given.items():
        known = schema["properties"].get(field)
        if known is None:
            takes = ", ".join(schema["properties"]) or "no arguments"
            raise OptionError(f"{name} has no argument {field}; it takes {takes}.", field=field)
        if "enum" in known and value not in known["enum"] and name != "set_strategy":
            raise OptionError(f"{name}: {field} is {value!r}; it must be one of {known['enum']}.", field=field)
    return given
