"""One fault server and one Chromium for all engine tests; each test has its own page, engine worker and caches."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import Bench, Desk, Handler
from hybr_testing import Watch, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Playwright's loop and asyncio's do not mix: run with the other browser tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def desk_server() -> Iterator[tuple[Desk, str]]:
    """The server, for the whole session."""
    handler = type("Bound", (Handler,), {"desk": Desk()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler.desk, f"http://127.0.0.1:{server.server_address[1]}"
    handler.desk.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def desk(desk_server: tuple[Desk, str]) -> Iterator[Desk]:
    """The server's desk, cleared for one test."""
    desk_server[0].clear()
    yield desk_server[0]
    desk_server[0].release.set()


@pytest.fixture(scope="session")
def engine_browser(playwright_driver: Playwright) -> Iterator[Browser]:
    """Chromium with the software WebGPU adapter."""
    found = launch(playwright_driver)
    yield found
    found.close()


@pytest.fixture
def open_bench(desk: Desk, desk_server: tuple[Desk, str], engine_browser: Browser) -> Iterator[Callable[..., Bench]]:
    """Open pages with an engine worker, each as a new visitor; afterwards no page has asked another host."""
    opened: list[Bench] = []

    def open_page(worker: str = "/pages/scripted.worker.js", **patience: Any) -> Bench:
        context = engine_browser.new_context()
        watch = Watch(desk_server[1])
        watch.attach(context)
        page = context.new_page()
        page.goto(desk_server[1] + "/pages/blank.html")
        page.evaluate(
            """async ([worker, patience]) => {
                 window.bench = await import('/pages/bench.js');
                 await bench.begin(worker, patience);
               }""",
            [worker, patience],
        )
        opened.append(Bench(page, watch))
        return opened[-1]

    yield open_page
    for item in opened:
        assert item.watch.foreign() == []
        item.page.context.close()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    """One page with the scripted engine worker."""
    return open_bench()
