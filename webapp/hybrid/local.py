"""LocalLLM: the one local model of the page: choosing, loading, its state, its loss (blueprint 0x000038)."""

from __future__ import annotations

from typing import Any


class LocalLLM:
    """Signatures first; the behaviour follows in the next commits."""

    async def init(self, model_id: str) -> bool | dict[str, Any]:
        """Load a model: True, or `{"success": False, "error": {name, message, code}}`. Never raises but for cancellation."""
        raise NotImplementedError

    async def switch_model(self, model_id: str) -> bool | dict[str, Any]:
        """Unload what is loaded, then `init`."""
        raise NotImplementedError

    async def unload(self) -> bool:
        """Free the engine; True if a model was loaded."""
        raise NotImplementedError

    async def cancel_load(self) -> bool:
        """Stop the load under way; its `init` returns an error of code `aborted`. True if there was one."""
        raise NotImplementedError

    async def delete(self, model_id: str) -> bool:
        """Remove a model's files from the browser's cache (and unload it first)."""
        raise NotImplementedError

    async def refresh(self) -> list[dict[str, Any]]:
        """Read /models/index.json again; emits `local-llm:models {models}`."""
        raise NotImplementedError

    def get_available_models(self) -> list[dict[str, Any]]:
        """The index's entries, each with `fits` (`{fits: bool, reason: str}`) and `cached` (bool)."""
        raise NotImplementedError

    def get_status(self) -> dict[str, Any]:
        """`{state, runtime, webgpu, reason, model, progress, loaded_bytes, total_bytes, eta_s, text, error, gpu}`.

        `state`, `runtime` and `webgpu` have the values of page-contract.md's `local-status`.
        """
        raise NotImplementedError

    def get_runtime_info(self) -> dict[str, Any]:
        """The adapter: `{webgpu, reason, remedy, gpu, limits, features, runtime}`."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether a model is loaded and its worker alive."""
        raise NotImplementedError
