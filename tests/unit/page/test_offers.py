"""WebLLM's own list as the page gets it: small, whole, and clear about whom a browser would ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hybr.server.page import npm, offers, parts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def modules() -> Path:
    """The vendored packages."""
    return npm.folder()


def test_every_chat_model_with_its_addresses(modules: Path) -> None:
    """More than a hundred, each once, each with both addresses over https at a host that is told; no embedding model."""
    told = json.loads(offers.listed(modules))
    ids = [model["id"] for model in told["models"]]
    assert len(ids) == len(set(ids)) > 100
    assert not [name for name in ids if "embed" in name]
    for model in told["models"]:
        assert {offers.origin(model["model"]), offers.origin(model["library"])} <= set(told["hosts"]), model["id"]
        assert model["model"].startswith("https://")
        assert model["vram_bytes"] > 50e6


def test_who_reads_pictures_and_who_takes_tools(modules: Path) -> None:
    """As the package itself has it: its one family that sees, and the Hermes models that it takes tools for."""
    told = json.loads(offers.listed(modules))["models"]
    seeing = [model["id"] for model in told if model.get("vision")]
    assert seeing
    assert all("vision" in name for name in seeing)
    calling = [model["id"] for model in told if model.get("tools")]
    assert len(calling) == 5
    assert all(name.startswith("Hermes-") for name in calling)


def test_it_is_in_the_bundle_and_small(modules: Path) -> None:
    """One file, below 100 kB as it stands."""
    [(path, body)] = parts.data(modules)
    assert path == "data/webllm.json"
    assert len(body) < 100_000
