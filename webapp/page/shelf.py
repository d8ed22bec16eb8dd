"""The Python end of the shelf: calls go to the shell (static/js/shelf.js) as messages, their results and errors come back."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from hybr.webapp.state.library import ShelfError

if TYPE_CHECKING:
    from collections.abc import Callable


PATIENCE_S = 10.0


class PageShelf:
    """`Shelf` over messages; `post` sends to the shell, in order."""

    def __init__(self, post: Callable[[dict[str, Any]], None]) -> None:
        self._post = post
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    def read(self, conversation: str) -> asyncio.Future[dict[str, Any]]:
        """Ask for one conversation; who waits for it is not kept waiting by a database that does not answer."""
        future = self._ask("read", conversation)
        timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._late, future)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    def _late(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(
                ShelfError("storage_failed", "This browser's database does not answer. Reload the page to try again.")
            )

    def write(self, change: dict[str, Any]) -> asyncio.Future[object]:
        """Have a change written; it is on its way when this returns."""
        return self._ask("write", change)

    def _ask(self, op: str, *args: Any) -> asyncio.Future[Any]:
        call = f"shelf-{next(self._ids)}"
        self._waiting[call] = future = asyncio.get_running_loop().create_future()
        self._post({"kind": "shelf", "id": call, "op": op, "args": list(args)})
        return future

    def receive(self, message: dict[str, Any]) -> None:
        """The shell's `shelf-result` or `shelf-error`."""
        future = self._waiting.pop(str(message.get("id")), None)
        if future is None or future.done():
            return
        if message["kind"] == "shelf-result":
            future.set_result(message.get("value"))
        else:
            error = message.get("error") or {}
            future.set_exception(ShelfError(str(error.get("code")), str(error.get("message"))))
