"""What this page's server keeps for its person: keys, the session, their data. Nothing of it is kept on this side.

A key goes in and never comes out again: what is told of one is whether it is there, and whose.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.runtimes.base import UnreachableError
from hybr.webapp.runtimes.http import read_json

if TYPE_CHECKING:
    from hybr.webapp.runtimes.base import Transport

KEY = re.compile(r"[!-~]{1,4096}")


class ServerError(Exception):
    """The server refused, or did not answer; `code` is its own, or `unreachable`."""

    def __init__(self, message: str, code: str = "server_error", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field


class Person:
    """See the module."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def providers(self) -> list[dict[str, Any]]:
        """Who can answer: `{name, kind, available, reason, models, breaker}`. Raises ServerError."""
        return list((await self._ask("GET", "/api/providers")).get("data") or ())

    async def keys(self) -> list[dict[str, Any]]:
        """For which providers there is a key, and whose: `{provider, set, source, suspect}`. Raises ServerError."""
        return list((await self._ask("GET", "/api/keys")).get("data") or ())

    async def set_key(self, provider: str, key: object) -> dict[str, Any]:
        """Give a key to the server, which asks the provider once; `checked` says `valid` or `unchecked`.

        Raises OptionError for what is no key, ServerError for one that the provider refuses.
        """
        text = key.strip() if isinstance(key, str) else ""
        if not KEY.fullmatch(text):
            raise OptionError("A key is one line of 1 to 4096 characters without blanks.", field="key")
        return await self._ask("PUT", f"/api/keys/{quote(provider, safe='')}", {"key": text})

    async def drop_key(self, provider: str) -> dict[str, Any]:
        """Have the server forget the person's own key. Raises ServerError."""
        return await self._ask("DELETE", f"/api/keys/{quote(provider, safe='')}")

    async def session(self) -> dict[str, Any]:
        """As whom this browser is in: `{auth, owner, role}`. Raises ServerError."""
        return await self._ask("GET", "/api/session")

    async def leave(self) -> None:
        """End the session. Raises ServerError."""
        await self._ask("DELETE", "/api/session")

    async def forget(self) -> dict[str, Any]:
        """Have the server remove all that it keeps of the person. Raises ServerError."""
        return await self._ask("DELETE", "/api/me/data")

    async def health(self) -> dict[str, Any]:
        """How the server is (`/healthz`). Raises ServerError."""
        return await self._ask("GET", "/healthz")

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            response = await self._transport.request(method, path, None if body is None else json.dumps(body).encode())
            answer = await read_json(response)
        except UnreachableError as error:
            raise ServerError(f"The server cannot be reached: {error}.", "unreachable") from None
        except ValueError:
            raise ServerError(f"The server answered {path} with something that is no JSON.", "no_json") from None
        if response.status >= 400 or not isinstance(answer, dict):
            told = (answer.get("error") if isinstance(answer, dict) else None) or {}
            message = str(told.get("message") or f"The server answered {response.status}.")
            raise ServerError(message, str(told.get("code") or "server_error"), str(told.get("field") or ""))
        return answer
