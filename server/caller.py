"""Who asks: what the door found out, and all that a route may decide by.

The door (`hybr.server.doors`) puts a `Caller` at `scope["state"]["caller"]` for every route that is not public; a route takes
the owner from there and never from a body, a query or a header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import MutableMapping

Role = Literal["admin", "user"]

LOCAL = "local"
"""The owner on a server for one person: what is stored for them is found again whether the token is on or off."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated caller.

    `owner` is the id under which everything of theirs is stored; `role` what they may do beyond their own; `token` the public
    id of the API token they came with (for limits per token), None for a person in the page.
    """

    owner: str
    role: Role
    token: str | None = None


PERSON = Caller(LOCAL, "admin")
"""The one person of a loopback server."""


def of(scope: MutableMapping[str, Any]) -> Caller:
    """Return who asks. Raises KeyError on a public route, where nobody was asked for: asking is a defect of the route."""
    caller: Caller = scope["state"]["caller"]
    return caller
