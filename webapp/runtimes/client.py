"""A cloud client that a caller handed to `init`, as a cloud runtime.

It has `complete(messages, options)` and answers whole: a text, or an object with `text` and perhaps `model`, `usage`, `cost`.
Its answer is then given out in pieces, as the blueprint has it: 50 characters every 50 ms, so that readers of a stream see one.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.errors import CallerError, CloudError, HybridError
from hybr.webapp.hybrid.ledger import stated
from hybr.webapp.hybrid.types import Final, Usage

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Call, Message
    from hybr.webapp.runtimes.base import Emit

PIECE, PAUSE_S = 50, 0.05


class CloudClient(Protocol):
    """What a caller's client has to have."""

    async def complete(self, messages: list[Message], options: dict[str, Any]) -> Any:
        """Answer whole."""
        ...


class ClientRuntime:
    """See the module. `piece` in characters, `pause_s` in seconds; 0 gives the answer out at once."""

    def __init__(self, client: CloudClient, *, piece: int = PIECE, pause_s: float = PAUSE_S) -> None:
        self._client = client
        self._piece = piece
        self._pause_s = pause_s

    def available(self) -> bool:
        """A client is asked whenever there is one."""
        return True

    def offline(self) -> bool:
        """A caller's client may well work offline."""
        return False

    def models(self) -> list[dict[str, Any]]:
        """A client does not say what it has."""
        return []

    async def knows(self, model: str) -> bool | None:  # noqa: ARG002
        """It cannot be asked."""
        return None

    def prefills(self, model: str | None) -> bool:  # noqa: ARG002
        """Not known of it, so no."""
        return False

    def price(self, model: str | None) -> dict[str, float] | None:  # noqa: ARG002
        """Not known of it."""
        return None

    async def chat(self, call: Call, emit: Emit) -> Final:
        """Answer `call`. Raises CloudError for whatever the client raises."""
        options = {**call.options.sampling(), "request_id": call.request_id}
        if call.model:
            options["model"] = call.model
        try:
            answer = await self._client.complete(list(call.messages), options)
        except HybridError:
            raise
        except Exception as error:
            raise CloudError(f"The cloud client failed: {error}", name=type(error).__name__, code="client_failed") from error
        said = {"text": answer} if isinstance(answer, str) else answer
        if not isinstance(said, dict) or not isinstance(said.get("text"), str):
            raise CloudError("The cloud client answered without `text`.", code="bad_answer")
        await self._give(said["text"], emit)
        return Final(
            model=str(said.get("model") or call.model or "client"),
            finish_reason=str(said.get("finish_reason") or "stop"),
            usage=_usage(said.get("usage")),
            cost=stated(said.get("cost")),
        )

    async def _give(self, text: str, emit: Emit) -> None:
        for start in range(0, len(text), self._piece):
            if start and self._pause_s:
                await asyncio.sleep(self._pause_s)
            emit(text[start : start + self._piece])


def _usage(said: object) -> Usage | None:
    """What the client states of its tokens; None for what states nothing: the answer is there, and is not lost for it."""
    if not isinstance(said, dict):
        return None
    counts = [said.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (int(one) if isinstance(one, int | float) and 0 <= one < math.inf else 0 for one in counts)
    return Usage(prompt, completion) if prompt or completion else None


def as_runtime(client: Any) -> Any:
    """A cloud runtime out of what `init` was given: a runtime as it is, a client wrapped; CallerError for anything else."""
    if callable(getattr(client, "chat", None)) and callable(getattr(client, "available", None)):
        return client
    if callable(getattr(client, "complete", None)):
        return ClientRuntime(client)
    raise CallerError("cloud_client must have complete(messages, options); leave it out to use the server.", field="cloud_client")
