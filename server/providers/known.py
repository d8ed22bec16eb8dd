"""What is known of models beyond what their providers' lists say: `models.json`, read once."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybr.server.providers.base import Model

LOOKALIKE = ("image", "audio", "realtime", "tts", "transcribe")  # of these families nothing is said here


@cache
def table() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the facts by provider and beginning of a name."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "models.json").read_text("utf-8"))
    return {provider: models for provider, models in found.items() if isinstance(models, dict)}


def facts(provider: str, name: str) -> dict[str, Any]:
    """Return what is known of a model, by the longest beginning of its name; empty for an unknown one."""
    models = table().get(provider, {})
    begins = [start for start in models if name.startswith(start)]
    return models[max(begins, key=len)] if begins and not any(word in name for word in LOOKALIKE) else {}


def filled(model: Model) -> Model:
    """Return `model` with what its provider's list did not say."""
    known = facts(model.provider, model.id.removeprefix(f"{model.provider}/"))
    if not known:
        return model
    sizes = {name: known[name] for name in ("context", "output") if name in known and not getattr(model, name)}
    able = {name: known[name] for name in ("images", "tools", "embeds") if name in known}
    return dataclasses.replace(model, **sizes, **able)
