"""Notices a model that talks nonsense without an error.

Graphics memory that ran out unnoticed leaves zeros in place of weights or cache; every token is then as likely as any other, and
the first of the vocabulary comes again and again.

Deliberately hard of hearing: only what the first tokens of vocabularies in use say counts, and only RUN of them in a row. A small
model that repeats itself, or a row of exclamation marks (which are tokens of several), is no failure of the device's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hybr.webapp.hybrid.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from hybr.webapp.hybrid.types import Final
    from hybr.webapp.runtimes.base import Emit

RUN = 40
FIRST = frozenset({"!", "\x00", "\ufffd", "\u2047", "<unk>", "<pad>"})
CODE = "gibberish"


class Sense:
    """See the module."""

    def __init__(self) -> None:
        self._last = ""
        self._run = 0

    def nonsense(self, delta: str) -> bool:
        """Take one piece of text; True when it is time to stop. Once per token: kept short."""
        if delta not in FIRST:
            self._run = 0
            return False
        self._run = self._run + 1 if delta == self._last else 1
        self._last = delta
        return self._run >= RUN


async def guarded(chat: Callable[[Emit], Coroutine[Any, Any, Final]], emit: Emit) -> Final:
    """Await `chat(emit)`, and end it when it talks nonsense. Raises LocalError of code `gibberish`, and what it raises."""
    sense, found = Sense(), False

    def take(delta: str) -> None:
        nonlocal found
        if not found:
            emit(delta)
            if sense.nonsense(delta):
                found = True
                work.cancel()

    work = asyncio.ensure_future(chat(take))
    try:
        return await work
    except asyncio.CancelledError:
        if not found:
            raise
    message = "The local model says the same nothing over and over: its graphics memory is damaged. It is loaded anew."
    error = LocalError(message, name="GibberishError", code=CODE, phase="decode")
    error.reactions = ("worker", "reload", "cloud")
    raise error
