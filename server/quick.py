"""The relay's doors past the framework: a path, a method, and nothing between them and who answers.

Starlette costs a request four wrappers and each sent chunk two more. The surfaces answer their own errors, so what is left to do
for them is to find the surface and to answer for a defect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Crash = Callable[[Request, Exception], Awaitable[Response]]


class Quick:
    """Sends POSTs for `surfaces`, by path, straight there, and everything else to `app`. `crash` answers for a defect."""

    def __init__(self, app: ASGIApp, surfaces: Mapping[str, ASGIApp], crash: Crash) -> None:
        self.app = app
        self.surfaces = surfaces
        self.crash = crash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        surface = self.surfaces.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if surface is None:
            await self.app(scope, receive, send)
            return
        scope["endpoint"] = surface  # for the log's line
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await surface(scope, receive, noted)
        except Exception as error:
            if not begun:
                from starlette.requests import Request

                response = await self.crash(Request(scope), error)
                await response(scope, receive, send)
            raise  # to uvicorn, which logs it with its traceback, as Starlette does
