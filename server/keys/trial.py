"""Does the provider take this key? Asked once, when a person sets it: the list of models, the cheapest call that wants a key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from hybr.server.providers import registry

if TYPE_CHECKING:
    from hybr.server.secret import Secret
    from hybr.server.upstreams import Upstream

Verdict = Literal["valid", "refused", "unchecked"]


async def tried(upstream: Upstream, key: Secret) -> Verdict:
    """Return what the provider says to the key; `unchecked` when it cannot be asked now, or has no such list."""
    probe = registry.remote(replace(upstream, key=key))
    try:
        if await probe.refresh():
            return "valid"
        return "refused" if probe.suspect else "unchecked"
    finally:
        await probe.stop()
