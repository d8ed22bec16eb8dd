"""Writes what outlives the page. A store that refuses (it is full, or forbidden) costs a memory, and not the request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


def kept(write: Callable[..., object], *args: Any) -> None:
    """Call `write(*args)`, a method of a `Storage`; what it raises is logged."""
    try:
        write(*args)
    except Exception as error:  # noqa: BLE001 - a store is whatever the page's host has
        log.warning("not kept in the browser: %s", error)
