"""One server's doors: the mode, the cookie, and who a credential stands for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlencode

from starlette.responses import RedirectResponse

from hybr.server import accounts
from hybr.server.caller import PERSON
from hybr.server.doors import link, page, store
from hybr.server.doors.credential import extract
from hybr.server.doors.local import LIFE, Local
from hybr.server.doors.registry import Entry, Pass, Registry, Visit
from hybr.server.doors.throttle import Throttle
from hybr.server.errors import HybrError
from hybr.server.security import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.responses import Response
    from starlette.types import Scope

    from hybr.server.doors.credential import Credential
    from hybr.server.store.database import Database

Mode = Literal["token", "off", "accounts"]


class Doors:
    """Who may come in here. `port` tells the cookies of two servers on one machine apart, for browsers do not."""

    def __init__(self, database: Database, folder: Path, mode: Mode) -> None:
        self.mode: Mode = mode
        self.database = database
        self.folder = folder
        self.local = Local(folder)
        self.throttle = Throttle()
        self.accounts = accounts.Accounts(database)
        self.registry = Registry(self.look, self.changes)
        self.port = 0
        self._announced: Path | None = None
        self._browsers: dict[str, Entry] = {}

    def address(self, plain: str) -> str:
        """Return what the person at the terminal opens: with the link's token where there is one that was not used yet."""
        return f"{plain}/?token={self.local.link}" if self.mode == "token" and not self.local.used else plain

    @staticmethod
    def watch(scope: Scope) -> Callable[[], bool] | None:
        """Return what says whether the request's credential still holds. Who asks ends the request by itself when it does not."""
        visit: Visit | None = scope["state"].get("visit")
        if visit is None:
            return None
        visit.task = None
        return lambda: not visit.ended

    def start(self, address: str) -> None:
        """Begin to watch for revocations, and say to `hybr link` where this server is."""
        if self.mode != "off":
            self.registry.start()
        if self.mode == "token":
            self._announced = link.announce(self.folder, address, self.port, self.local.issued.seed)

    async def stop(self) -> None:
        """End the watching."""
        link.withdraw(self._announced)
        await self.registry.stop()

    def cookie_name(self, scope: Scope) -> bytes:
        """Return the cookie's name: `__Host-`, which browsers protect, wherever it is not plain HTTP to this machine."""
        if self.mode == "token" or plain(scope):
            return b"hybr-%d" % self.port
        return b"__Host-hybr"

    async def find(self, credential: Credential) -> Entry | None:
        """Return what is known of the credential, None when it lets nobody in."""
        if credential.kind == "token":
            return await self.registry.find("token", credential.digest())
        if credential.kind == "cookie" and self.mode == "accounts":
            return await self.registry.find("session", credential.digest())
        if credential.kind == "cookie" and (end := self.local.expires(credential.text)):
            return self.browser(credential, end)
        return None

    def browser(self, credential: Credential, end: float) -> Entry:
        """Return the one entry of a browser that was let in by the link; the signature has said all that there is to look up."""
        if entry := self._browsers.get(credential.text):
            return entry
        self._browsers = {text: entry for text, entry in self._browsers.items() if entry.visits}
        return self._browsers.setdefault(credential.text, Entry(Pass(PERSON, end), 0, 0))

    async def look(self, kind: str, said: str) -> Pass | None:
        """Return what holds now for a token or a session with this digest."""
        async with self.database.begin() as connection:
            if kind == "token":
                return await store.token(connection, said, hosted=self.mode == "accounts")
            return await store.session(connection, said)

    async def changes(self) -> int:
        """Return the number that every revocation moves."""
        async with self.database.begin() as connection:
            return await store.changes(connection, "doors")

    async def page(self, scope: Scope) -> Response | None:
        """Return what a document's address answers instead of the document: the way in, or the way on from the link."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in query if name == "token"), None)
        # By GET alone: who looks ahead with HEAD would use the link up and throw the cookie away.
        opening = self.mode == "token" and scope["method"] == "GET"
        if opening and token is not None and (cookie := self.local.redeem(token)):
            return self.welcome(scope, clean(scope["path"], query), cookie)
        try:
            known = await self.find(extract(scope["headers"], self.cookie_name(scope)))
        except HybrError:
            known = None
        if known and token is not None and self.mode == "token":
            return RedirectResponse(clean(scope["path"], query), 303, {"cache-control": "no-store"})
        return None if known else page.closed(self.mode, used=token is not None)

    def welcome(self, scope: Scope, target: str, cookie: str) -> Response:
        """Return the redirect that gives the browser its cookie."""
        answer = RedirectResponse(target, 303, {"cache-control": "no-store"})
        answer.headers["set-cookie"] = self.baked(scope, cookie, LIFE)
        return answer

    def baked(self, scope: Scope, value: str, seconds: float) -> str:
        """Return a Set-Cookie for our cookie; zero seconds take it away."""
        name = self.cookie_name(scope).decode()
        secure = "; Secure" if name.startswith("__Host-") else ""
        return f"{name}={value}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Strict{secure}"

    async def login(self, name: str, password: str, address: str) -> str | None:
        """Return a fresh session's id for the right password. Raises LimitError after too many wrong ones."""
        self.throttle.attempt(name, address)
        owner = await self.accounts.check(name, password)
        if owner is None:
            return None
        self.throttle.passed(name, address)
        async with self.database.begin() as connection:
            return await store.begin_session(connection, owner, time.time())

    async def logout(self, credential: Credential, visit: Visit | None = None) -> None:
        """End the session of this browser, and whatever runs on it but `visit`, the request that asks for it."""
        if credential.kind != "cookie":
            return
        if self.mode == "accounts":
            async with self.database.begin() as connection:
                await store.end_session(connection, credential.digest())
            self.registry.forget("session", credential.digest(), visit)
        elif self.mode == "token" and self.local.expires(credential.text):
            self.local.end(credential.text)
            if entry := self._browsers.pop(credential.text, None):
                entry.end(visit)


def plain(scope: Scope) -> bool:
    """Say whether this is plain HTTP to a loopback name, where a Secure cookie could not be kept."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return scope.get("scheme") == "http" and LOOPBACK.fullmatch(host) is not None


def clean(path: str, query: list[tuple[str, str]]) -> str:
    """Return the address without the token."""
    rest = urlencode([(name, value) for name, value in query if name != "token"])
    return f"{path}?{rest}" if rest else path
