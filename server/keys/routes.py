"""`/api/keys` and `/api/keys/{provider}`: a key goes in and never comes out again, not even in part.

GET, PUT and DELETE all answer `{"provider", "set", "source", "suspect"}`: whether a call would have a key, whose (`person`,
`operator` or `none`), and whether the provider has refused the person's. PUT sends `{"key"}`; the provider is asked once, and a
key that it refuses is not kept; `checked` says `valid`, or `unchecked` where it could not be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server import caller
from hybr.server.body import check_type, decode, read_body
from hybr.server.errors import NotFoundError, RequestError
from hybr.server.keys.trial import tried
from hybr.server.secret import Secret
from hybr.server.upstreams import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from hybr.server.keys.keyring import Keyring
    from hybr.server.upstreams import Upstream

BODY = 16 * 1024


class Keys:
    """The routes over `keyring`, for the providers behind `upstreams` by name."""

    def __init__(self, keyring: Keyring, upstreams: Mapping[str, Upstream]) -> None:
        self.keyring = keyring
        self.upstreams = upstreams

    async def index(self, request: Request) -> JSONResponse:
        """Answer GET of all."""
        owner = caller.of(request.scope).owner
        await self.keyring.ready()
        return JSONResponse({"object": "list", "data": [self.standing(owner, name) for name in self.upstreams]})

    async def read(self, request: Request) -> JSONResponse:
        """Answer GET."""
        await self.keyring.ready()
        return JSONResponse(self.standing(caller.of(request.scope).owner, self.named(request).name))

    async def write(self, request: Request) -> JSONResponse:
        """Answer PUT. Raises RequestError for what is no key, or is none to the provider."""
        check_type(request.scope)
        owner, upstream = caller.of(request.scope).owner, self.named(request)
        key = checked(decode(await read_body(request.receive, BODY)))
        verdict = await tried(upstream, key)
        if verdict == "refused":
            raise RequestError(f"{upstream.name} refuses this key; it was not kept", code="key_refused", field="key")
        await self.keyring.put(owner, upstream.name, key.reveal())
        return JSONResponse({**self.standing(owner, upstream.name), "checked": verdict})

    async def drop(self, request: Request) -> JSONResponse:
        """Answer DELETE."""
        owner, name = caller.of(request.scope).owner, self.named(request).name
        await self.keyring.drop(owner, name)
        return JSONResponse(self.standing(owner, name))

    def named(self, request: Request) -> Upstream:
        """Return the provider of the path. Raises NotFoundError that says which there are."""
        name = request.path_params["provider"]
        if name not in self.upstreams:
            known = ", ".join(self.upstreams) or "none"
            raise NotFoundError(f"no provider {name[:100]!r} takes a key here; there is: {known}", code="no_such_provider")
        return self.upstreams[name]

    def standing(self, owner: str, name: str) -> dict[str, Any]:
        """Return what anybody may know of a key."""
        own = self.keyring.find(owner, name) is not None
        source = "person" if own else "operator" if self.upstreams[name].key else "none"
        return {"provider": name, "set": source != "none", "source": source, "suspect": self.keyring.is_suspect(owner, name)}


def checked(body: Any) -> Secret:
    """Return the key. Raises RequestError without a word of it."""
    if not isinstance(body, dict) or set(body) != {"key"}:
        raise RequestError("send an object with exactly key", field="key")
    if not isinstance(body["key"], str) or not KEY.fullmatch(body["key"].strip()):
        raise RequestError("a key is one line of 1 to 4096 ASCII characters without blanks", field="key")
    return Secret(body["key"].strip())
