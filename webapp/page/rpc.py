"""Calls from the page's JavaScript: each to a method of the provider or of LocalLLM, answered by result, chunks or error.

`rpc-cancel` stops the request that the call began; a call that is no request (a load) goes on, only its answer is not awaited
any more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.errors import CallerError, HybridError
from hybr.webapp.hybrid.tools import TOOLS, Tools
from hybr.webapp.page import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.hybrid.types import Chunk, Completion
    from hybr.webapp.page.place import Place

log = logging.getLogger(__name__)

REQUESTS = ("complete", "complete_local", "complete_cloud", "generate_with_model")
PLAIN = (
    "set_egress_policy",
    "get_egress_policy",
    "answer_egress",
    "get_egress_log",
    "get_mode",
    "is_local_available",
    "abort",
    "get_status",
    "get_auto_switch_config",
    "get_usage_stats",
    "get_recovery",
    "set_recovery",
    "set_persona",
    "delete_persona",
    "get_budget",
    "set_budget",
    "set_rate_limits",
    "report",
)
AS_THEY_ARE = frozenset({"getAvailableModels", "tools", "listPersonas", "savePersona"})  # names in them are others'
STREAMS = {"stream": 2, "resume": 4}  # how many arguments; the options are the second and the third
LOCAL = ("init", "switch_model", "unload", "cancel_load", "delete", "is_ready", "get_status", "get_runtime_info", "set_runtime")


class Shell(Protocol):
    """The main thread."""

    def post(self, message: dict[str, Any]) -> None:
        """Send one message."""
        ...

    def chunk(self, call_id: str, chunk: Chunk) -> None:
        """Send one chunk of a streaming call."""
        ...


class Rpc:
    """See the module. `shell` takes the answers; `client` is the caller's own cloud client as seen from here."""

    def __init__(
        self,
        hybrid: HybridLLMProvider,
        local: LocalLLM,
        shell: Shell,
        client: object,
        place: Place,
    ) -> None:
        self._hybrid = hybrid
        self._local = local
        self._shell = shell
        self._client = client
        self._place = place
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._requests: dict[str, str] = {}
        self._tools = Tools(hybrid, local)
        self._methods = self._table()

    def _table(self) -> dict[tuple[str, str], Callable[..., Any]]:
        hybrid, local = self._hybrid, self._local
        table: dict[tuple[str, str], Callable[..., Any]] = {
            ("HybridLLMProvider", "init"): lambda wire=None: hybrid.init(self._client if wire else None),
            # A script is told False and may act on it; a wish that comes true later is for the person's own control.
            ("HybridLLMProvider", "setMode"): lambda mode=None, manual=True: self._place.set_mode(
                mode, manual=manual is not False, remember=False
            ),
            ("HybridLLMProvider", "setAutoSwitchConfig"): lambda change=None: hybrid.set_auto_switch_config(
                convert.options(change)
            ),
            ("HybridLLMProvider", "estimate"): lambda asked=None, options=None: hybrid.estimate(asked, convert.options(options)),
            ("HybridLLMProvider", "listPersonas"): lambda: convert.personas_to_wire(hybrid.list_personas()),
            ("HybridLLMProvider", "savePersona"): lambda name=None, persona=None: convert.persona_to_wire(
                hybrid.save_persona(name, convert.persona(persona))
            ),
            ("HybridLLMProvider", "tools"): lambda: list(TOOLS),
            ("HybridLLMProvider", "callTool"): self._tool,
            ("LocalLLM", "getAvailableModels"): self._models,
        }
        for name in PLAIN:
            table["HybridLLMProvider", convert.camel_name(name)] = getattr(hybrid, name)
        for name in LOCAL:
            table["LocalLLM", convert.camel_name(name)] = getattr(local, name)
        return table

    def receive(self, message: dict[str, Any]) -> None:
        """Begin one call."""
        call_id = message["id"]
        task = asyncio.get_running_loop().create_task(self._answer(call_id, message))
        self._calls[call_id] = task
        task.add_done_callback(lambda _: self._forget(call_id))

    def cancel(self, call_id: str) -> None:
        """Stop a call: its request if it is one, else only the waiting for it."""
        request = self._requests.get(call_id)
        if request is not None and self._hybrid.abort(request):
            return
        if task := self._calls.get(call_id):
            task.cancel()

    def _forget(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._requests.pop(call_id, None)

    async def _answer(self, call_id: str, message: dict[str, Any]) -> None:
        try:
            value = await self._call(call_id, message["module"], message["method"], message.get("args") or [])
        except HybridError as error:
            self._shell.post({"kind": "rpc-error", "id": call_id, "error": error_to_wire(error)})
        except Exception as error:
            log.exception("%s.%s failed", message.get("module"), message.get("method"))
            wire = {
                "name": type(error).__name__,
                "message": str(error) or "Something in this page is broken.",
                "code": "internal",
            }
            self._shell.post({"kind": "rpc-error", "id": call_id, "error": wire})
        else:
            self._shell.post({"kind": "rpc-result", "id": call_id, "value": value})

    async def _call(self, call_id: str, module: str, method: str, args: list[Any]) -> Any:
        if module == "HybridLLMProvider" and (method in STREAMS or convert.snake_name(method) in REQUESTS):
            return await self._request(call_id, method, *[*args, *[None] * 4][: STREAMS.get(method, 2)])
        known = self._methods.get((module, method))
        if known is None:
            raise CallerError(f"{module} has no method {method}.", field="method", code="unknown_method")
        try:
            inspect.signature(known).bind(*args)
        except TypeError as error:
            raise CallerError(f"{module}.{method}: {error}.", field="args") from None
        value = known(*args)
        value = await value if inspect.isawaitable(value) else value
        return value if method in AS_THEY_ARE else convert.camel(value)

    async def _tool(self, name: object = None, args: object = None) -> dict[str, Any]:
        """A tool's answer. The names inside of a caller's options, and of auto's settings, are ours in JavaScript's spelling."""
        given = args
        if isinstance(given, dict):
            given = {key: convert.options(value) if key in {"options", "auto"} else value for key, value in given.items()}
        return await self._tools.call(name, given)

    async def _request(self, call_id: str, method: str, asked: object, *more: object) -> Any:
        options = convert.options(more[1] if method == "resume" else more[0])
        request_id = options.get("request_id") if isinstance(options, dict) else None
        if isinstance(request_id, str):
            self._requests[call_id] = request_id
        if method in STREAMS:
            hybrid = self._hybrid
            whole = (
                hybrid.stream(asked, options)
                if method == "stream"
                else hybrid.resume(asked, more[0], options, more[2] or "local")
            )
            async for chunk in whole:
                self._shell.chunk(call_id, chunk)
            return None
        completion: Completion = await getattr(self._hybrid, convert.snake_name(method))(asked, options)
        return completion_to_wire(completion)

    async def _models(self) -> list[dict[str, Any]]:
        """The index's entries under the index's own names, with ours beside them; read now if it never was."""
        models = self._local.get_available_models()
        return models or await self._local.refresh()


def completion_to_wire(completion: Completion) -> dict[str, Any]:
    """camelCase, but for tool calls, whose names are the model's and the caller's."""
    wire: dict[str, Any] = convert.camel(completion.to_dict())
    if completion.tool_calls:
        wire["toolCalls"] = list(completion.tool_calls)
    return wire


def chunk_to_wire(chunk: Chunk) -> dict[str, Any]:
    """A chunk without its text; the last one with all of its completion."""
    wire: dict[str, Any] = convert.camel(chunk.to_dict())
    if chunk.completion and chunk.completion.tool_calls:
        wire["toolCalls"] = list(chunk.completion.tool_calls)
    return wire


def error_to_wire(error: HybridError) -> dict[str, Any]:
    """`{name, message, code, phase, text, ...}`: a stop carries its usage, a caller's error the field by its JavaScript name."""
    wire = {**error.to_dict(), "phase": error.phase, "text": error.text, "retryable": error.retryable}
    if isinstance(error, CallerError):
        wire |= {key: convert.option_names(wire[key]) for key in ("message", "field") if isinstance(wire.get(key), str)}
    if error.parts:
        wire["parts"] = [part.to_dict() for part in error.parts]
    if usage := getattr(error, "usage", None):
        wire["usage"] = usage.to_dict()
    return dict(convert.camel(wire))
