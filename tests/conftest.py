"""What every folder of browser tests shares: one Playwright driver a process (its sync API allows no second one)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Playwright

pytest_plugins = ["stores"]  # the fixture `database`, for whoever stores something


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Playwright]:
    """Playwright's driver process."""
    with sync_playwright() as driver:
        yield driver


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that drives a browser: those run in a process of their own (Playwright's loop and asyncio's do not mix)."""
    for item in items:
        if "playwright_driver" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)
