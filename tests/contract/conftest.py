"""The real house model for the contract tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hybr.mlc_build import sources

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def gguf() -> Path:
    """SmolLM2's weights, fetched once into the shared cache."""
    return sources.fetch("smollm2-135m")
