"""`/remote/assets/`: the engine's worker once more, under a policy that lets it fetch models from the hosts its person allowed.

Everything else of the page keeps to this server: the document, Python's worker, and this worker too for whoever allowed nobody.
A worker's policy is that of its script's answer, so only the engine's own script is served here, unkept, for each person as
their preferences stand (`model_hosts`); what it imports comes from its one address under `/assets/`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from hybr.server import caller
from hybr.server.errors import NotFoundError
from hybr.server.files import FOREVER, send_file
from hybr.server.security import policy
from hybr.server.site import with_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from hybr.server.preferences import Preferences
    from hybr.server.site import Site

MOST = 24
ENGINE = "engine.worker.js"
# A host as CSP writes it: a name, or every name below one of at least two labels. Plain http only on this machine, for tests and
# for `hybr models serve`. No path (it does not survive a redirect), no bare `*`.
NAMED = re.compile(r"https://(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,63}(?::[0-9]{1,5})?")
LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost):[0-9]{1,5}")


def model_hosts(value: Any) -> str | None:
    """Check a preference: None when it is a list of hosts that a policy may name, else what it must be."""
    named = isinstance(value, list) and len(value) <= MOST and all(isinstance(one, str) and is_host(one) for one in value)
    return None if named else f"a list of at most {MOST} hosts, each like https://models.example.org or https://*.example.org"


def is_host(text: str) -> bool:
    """Say whether a policy may name it."""
    return len(text) <= 200 and bool(NAMED.fullmatch(text) or LOOPBACK.fullmatch(text))


def worker_policy(hosts: Sequence[str]) -> str:
    """Return the policy of an engine that may fetch from these hosts, and from here."""
    return policy(connect=" ".join(["'self'", *(host for host in hosts if is_host(host))]))


class Hosts:
    """The route over the page's files and the persons' preferences."""

    def __init__(self, site: Site, preferences: Preferences) -> None:
        self.site = site
        self.preferences = preferences

    async def assets(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/remote/assets/<hash>/...`."""
        relative = scope["path_params"]["path"]
        path = self.site.find(relative)
        if path is None:
            raise NotFoundError("the bundle has no such file", code="no_such_asset")
        if path.name != ENGINE:
            await RedirectResponse(f"/assets/{relative}", 308, {"cache-control": FOREVER})(scope, receive, send)
            return
        stored = await self.preferences.of(caller.of(scope).owner)
        hosts = stored["preferences"].get("model_hosts") or []
        # Kept nowhere, not even to be asked about: the next answer may stand under another policy.
        fresh = [pair for pair in Headers(scope=scope).raw if not pair[0].startswith(b"if-")]
        await send_file(path, {**scope, "headers": fresh}, receive, with_policy(send, worker_policy(hosts)), cache="no-store")
