"""HybridLLMProvider: one interface over the model in the browser and the one behind the server (blueprint 0x000039)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hybr.webapp.hybrid.types import Chunk, Completion, Mode


class HybridLLMProvider:
    """Signatures first; the behaviour follows in the next commits."""

    preferred_mode: Mode

    def init(self, cloud_client: object | None = None) -> bool:
        """Use `cloud_client` as the cloud side, or the server's gateway when None."""
        raise NotImplementedError

    def set_mode(self, mode: object, manual: bool = True) -> bool:
        """Put a mode in force; False (and a warning) when it cannot be."""
        raise NotImplementedError

    def get_mode(self) -> Mode:
        """The mode in force."""
        raise NotImplementedError

    def is_local_available(self) -> bool:
        """Whether a local model is ready to answer."""
        raise NotImplementedError

    async def complete(self, messages: object, options: object = None) -> Completion:
        """One answer, whole."""
        raise NotImplementedError

    async def complete_local(self, messages: object, options: object = None) -> Completion:
        """One answer from the local model only."""
        raise NotImplementedError

    async def complete_cloud(self, messages: object, options: object = None) -> Completion:
        """One answer from the cloud only."""
        raise NotImplementedError

    def stream(self, messages: object, options: object = None) -> AsyncIterator[Chunk]:
        """One answer as it comes; close it (`aclose`) to walk away."""
        raise NotImplementedError

    async def generate_with_model(self, prompt: str, options: object = None) -> Completion:
        """One answer to one prompt, by the model named in the options."""
        raise NotImplementedError

    def abort(self, request_id: str | None = None) -> bool:
        """Stop one request, or all; True if there was one."""
        raise NotImplementedError

    def get_status(self) -> dict[str, Any]:
        """`{mode, preferred_mode, local_available, cloud_available, local_model, local_ready, breaker, active, ...}`."""
        raise NotImplementedError

    def get_usage_stats(self) -> dict[str, Any]:
        """`{local, cloud: {requests, tokens, errors, total_time, ...}, fallbacks, switch_history}`."""
        raise NotImplementedError

    def get_auto_switch_config(self) -> dict[str, Any]:
        """`{enabled, fallback_to_cloud, prefer_local}`."""
        raise NotImplementedError
