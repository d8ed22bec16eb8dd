"""Builds the orchestrator out of its parts at boot and hands each message to whom it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.local import LocalLLM
    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.runtimes.gateway import Gateway
    from hybr.webapp.state.preferences import Preferences


@dataclass
class Context:
    """What the Panel app may use. `preflight` is the shell's probe of the GPU, empty until it is known."""

    hybrid: HybridLLMProvider
    local: LocalLLM
    gateway: Gateway
    events: EventBus
    preferences: Preferences
    preflight: dict[str, Any]


def boot(host: Any, config_json: str) -> None:
    """Build everything and start what the address bar and the stored preferences ask for."""
    raise NotImplementedError


def receive(message: str) -> None:
    """Take one message of the shell (`preflight`, `online`, `ui`, `rpc`, `rpc-cancel`, `cloud-chunk`, ...)."""
    raise NotImplementedError


def context() -> Context:
    """The parts, for the Panel app; only after `boot`."""
    raise NotImplementedError
