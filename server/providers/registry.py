"""Everybody who can answer here: the providers made from the configuration, the house, and who is missing and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr.server.providers.anthropic import Anthropic
from hybr.server.providers.gemini import Gemini
from hybr.server.providers.openai import OpenAI
from hybr.server.providers.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.server.providers.dialect import Dialect
    from hybr.server.upstreams import Upstream

DIALECTS: dict[str, Callable[[Upstream], Dialect]] = {"openai": OpenAI, "anthropic": Anthropic, "gemini": Gemini}


def remote(upstream: Upstream) -> Remote:
    """Return the provider for one configured upstream."""
    return Remote(upstream, dialect(upstream))


def dialect(upstream: Upstream) -> Dialect:
    """Return the language of the upstream's kind."""
    return DIALECTS[upstream.kind](upstream)
