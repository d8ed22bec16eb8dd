"""What the gateway asks of a provider: its models, and the answer to one call as OpenAI-shaped chunks.

A provider gets a `Call` that is valid in itself (`hybr.server.chat`), refuses what it cannot do, translates both ways as
the bytes come, and raises only the errors of `hybr.server.errors`. Leaving the context manager, by any way, releases the
upstream's connection; that is what cancels the upstream when the client has left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from hybr.server.providers.breaker import Breaker
    from hybr.server.secret import Secret


COUNTING = "counting"
"""In a call's body, that its tokens are to be counted and nothing is to be answered."""


@dataclass(frozen=True)
class Model:
    """A model that can be asked for by `id`.

    `context` is its window in tokens and `output` the longest answer, 0 where that is not known; `prefill` says that it goes on
    from an assistant's turn that comes last; `embeds` that it makes vectors and not answers.
    """

    id: str
    name: str
    context: int
    provider: str
    prefill: bool = False
    tools: bool = False
    images: bool = False
    created: int = 0
    output: int = 0
    embeds: bool = False

    def wire(self) -> dict[str, Any]:
        """Return OpenAI's model object with what a client must know to choose."""
        shape = {"id": self.id, "object": "model", "created": self.created, "owned_by": self.provider}
        able = {"prefill": self.prefill, "tools": self.tools, "images": self.images}
        modes = {
            "input_modalities": ["text", *(["image"] if self.images else [])],
            "output_modalities": ["embedding" if self.embeds else "text"],
        }
        sizes = {"context_length": self.context, "max_output_tokens": self.output or None}
        return {**shape, "name": self.name, **sizes, **modes, "capabilities": able}


@dataclass(frozen=True)
class Call:
    """A checked request. `body` holds it in OpenAI's words, without the fields we ignore.

    `key` is the caller's own key for this provider, which goes before the operator's.
    """

    model: str
    stream: bool
    body: dict[str, Any]
    key: Secret | None = field(default=None, repr=False)


class Ending(Protocol):
    """What is known of an answer while and after it is read: `finish` and `usage` once the provider said them."""

    finish: str | None
    usage: dict[str, Any] | None
    extra: dict[str, Any]

    def head(self) -> dict[str, Any]:
        """Return what every chunk of this answer has: id, object, created, model."""


@dataclass
class Answer:
    """An upstream that has begun to answer well.

    `chunks` are OpenAI's chunks in the lots in which they came. They end when the answer came to its proper end, which is then in
    `ending`, and in an UpstreamError otherwise.
    """

    chunks: AsyncIterator[list[dict[str, Any]]]
    ending: Ending
    attempts: int = 1


class Provider(Protocol):
    """Someone who answers chat calls."""

    breaker: Breaker

    @property
    def retries(self) -> int:
        """How often a call that failed before its first byte may be repeated."""

    @property
    def name(self) -> str:
        """The short name, for headers and reports."""

    def usable(self, key: Secret | None) -> bool:
        """Say whether this provider can be asked by a caller whose own key is `key`."""

    def models(self) -> Sequence[Model]:
        """Return what can be asked for now or shortly, the best first. Never waits."""

    def takes(self, model: str) -> bool:
        """Say whether the id is one of this provider's, listed or not. Asked for every request, so quick."""

    def report(self) -> dict[str, Any]:
        """Return name, kind, available, reason, the number of models and the breaker's state."""

    def open(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Send `call` and yield the answer once its first bytes are there.

        Raises RequestError for what the caller must change, UpstreamError for what it need not.
        """
