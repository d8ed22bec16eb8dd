"""What every test shares: the same environment and the same examples everywhere, and one Playwright driver a process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Playwright

pytest_plugins = ["stores"]  # the fixture `database`, for whoever stores something

# `make test` must say the same of the same tree each time: its examples are drawn from a seed that the test's own name and code
# give, and no machine is too slow for them. `make test-long` draws new ones (--hypothesis-profile=wide).
settings.register_profile("wide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("wide"), derandomize=True, database=None)
settings.load_profile("steady")

OURS = ("HYBR_HOME", "HYBR_CHROMIUM", "HYBR_SCREENSHOTS")  # and HYBR_BENCH_*: said to the tests, not to the server
FOREIGN = ("_API_KEY", "_API_KEY_FILE")
LOOPBACK = "127.0.0.1,localhost"
BROWSER = ("tests/e2e/", "tests/unit/engine/")  # folders whose tests all drive a browser


def pytest_configure() -> None:
    """Take away what a person's shell says to their own server: settings, keys that cost money, a proxy before the loopback."""
    for name in list(os.environ):
        if name.endswith(FOREIGN) or (name.startswith("HYBR_") and name not in OURS and not name.startswith("HYBR_BENCH")):
            del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of the other half of `make test`: reading and importing all of them twice takes longer than many tests."""
    half = config.getoption("markexpr")
    if not half.endswith("e2e") or not collection_path.name.startswith("test_"):
        return None
    browser = any(folder in collection_path.as_posix() for folder in BROWSER)
    if half.endswith("not e2e"):
        return browser or None
    return not (browser or "playwright" in collection_path.read_text()) or None


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Playwright]:
    """Playwright's driver process (its sync API allows no second one)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that drives a browser: those run in a process of their own (Playwright's loop and asyncio's do not mix).

    They and the contract's tests, which have real sockets, processes and a software GPU beside two busy cores, are run once more
    when they fail, and the re-run is printed (R). A unit test gets no second chance.
    """
    for item in items:
        browser = "playwright_driver" in getattr(item, "fixturenames", ())
        if browser:
            item.add_marker(pytest.mark.e2e)
        if browser or "/tests/contract/" in item.path.as_posix():
            item.add_marker(pytest.mark.flaky(reruns=1))
