"""Where things live: the cache that may be deleted, the data that may not, and the packaged folders."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Return the cache folder (`$HYBR_HOME`, else the platform's user cache). It may be deleted at any time."""
    value = os.environ.get("HYBR_HOME")
    return Path(value).expanduser() if value else platformdirs.user_cache_path("hybr", appauthor=False)


def data() -> Path:
    """Return the data folder (`$HYBR_DATA`, else the platform's user data). Nothing in it can be rebuilt."""
    value = os.environ.get("HYBR_DATA")
    return Path(value).expanduser() if value else platformdirs.user_data_path("hybr", appauthor=False)


def package(name: str) -> Path:
    """Return a top-level part of the distribution (`static`, `webapp`, `server`, `mlc_build`).

    The wheel and the development link tree both lay the parts side by side under `hybr/`, so a sibling lookup
    is right in both and needs no import of the part.
    """
    return Path(__file__).parent.parent / name
