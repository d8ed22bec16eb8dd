"""What the gateway asks of a provider: its models, and the answer to one call as OpenAI-shaped bytes.

A provider gets a `Call` that is valid in itself (`hybr.server.chat`), refuses what it cannot do, translates both ways as
the bytes come, and raises only the errors of `hybr.server.errors`. Leaving the context manager, by any way, releases the
upstream's connection; that is what cancels the upstream when the client has left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager


@dataclass(frozen=True)
class Model:
    """A model that can be asked for by `id`.

    `context` is its window in tokens, 0 where that is not known; `prefill` says that it goes on from an assistant's turn that
    comes last.
    """

    id: str
    name: str
    context: int
    provider: str
    prefill: bool = False
    tools: bool = False
    images: bool = False
    created: int = 0

    def wire(self) -> dict[str, Any]:
        """Return OpenAI's model object with what a client must know to choose."""
        shape = {"id": self.id, "object": "model", "created": self.created, "owned_by": self.provider}
        able = {"prefill": self.prefill, "tools": self.tools, "images": self.images}
        return {**shape, "name": self.name, "context_length": self.context, "capabilities": able}


@dataclass(frozen=True)
class Call:
    """A checked chat request. `body` holds the request as the caller sent it, without the fields we ignore."""

    model: str
    stream: bool
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """An upstream that has begun to answer well; `chunks` are the body's bytes as they come."""

    chunks: AsyncIterator[bytes]
    attempts: int = 1


class Provider(Protocol):
    """Someone who answers chat calls."""

    @property
    def name(self) -> str:
        """The short name, for headers and reports."""

    def models(self) -> Sequence[Model]:
        """Return what can be asked for now or shortly, the best first. Never waits."""

    def takes(self, model: str) -> bool:
        """Say whether a model that is not listed is this provider's to judge."""

    def open(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Send `call` and yield the answer once its first bytes are there.

        The bytes are one JSON object, or for `call.stream` Server-Sent Events that end with `[DONE]`.
        Raises RequestError for what the caller must change, UpstreamError for what it need not.
        """
