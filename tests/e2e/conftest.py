"""One server for all browser tests, one page with a loaded engine a model (creating an engine costs 23 s here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, Served, Watch, launch, load_model, serve, wait_core, wait_local
from shell_testing import shell_page, shell_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that it runs in a process of its own (Playwright's loop and asyncio's do not mix)."""
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real `hybr serve` that builds its models in the background."""
    folder = tmp_path_factory.mktemp("served")
    with serve(folder / "data", log=folder / "serve.log") as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright_driver: Playwright) -> Iterator[Browser]:
    """Chromium with the software WebGPU adapter."""
    browser = launch(playwright_driver)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chromium_without_webgpu(playwright_driver: Playwright) -> Iterator[Browser]:
    """Chromium as a person without WebGPU has it."""
    browser = launch(playwright_driver, webgpu=False)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The static server for one file's shell tests."""
    with shell_server() as origin:
        yield origin


@pytest.fixture
def page(chromium_without_webgpu: Browser, origin: str) -> Iterator[Page]:
    """A fresh shell whose Python is ready."""
    with shell_page(chromium_without_webgpu, origin) as (page, _):
        yield page


class Pages:
    """Opens watched pages; each in a context of its own, as a new visitor."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin

    def open(self, path: str = "/", *, base: str | None = None, **context_options: Any) -> tuple[Page, Watch]:
        """Open `path` (at another address with `base`) as a new visitor and wait for the orchestrator."""
        origin = base or self.origin
        context = self.browser.new_context(**context_options)
        context.add_init_script(RECORDER)
        watch = Watch(origin)
        watch.attach(context)
        page = context.new_page()
        page.goto(origin + path)
        wait_core(page)
        return page, watch


@pytest.fixture
def visit(served: Served, chromium: Browser) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """Open pages for one test; afterwards each is checked (own host only, no unannounced error) and closed."""
    yield from _visits(Pages(chromium, served.url))


@pytest.fixture
def visit_without_webgpu(served: Served, chromium_without_webgpu: Browser) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """The same in a browser without WebGPU."""
    yield from _visits(Pages(chromium_without_webgpu, served.url))


def _visits(pages: Pages) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    opened: list[tuple[Page, Watch]] = []

    def visit(path: str = "/", **context_options: Any) -> tuple[Page, Watch]:
        opened.append(pages.open(path, **context_options))
        return opened[-1]

    yield visit
    for page, watch in opened:
        assert page.evaluate("window.__violations") == []
        page.context.close()
        watch.check()


def _loaded(served: Served, chromium: Browser, model: str) -> Iterator[tuple[Page, Watch]]:
    served.wait_built(model)
    page, watch = Pages(chromium, served.url).open(f"/?model={model}&load=1&mode=local")
    wait_local(page)
    yield page, watch
    page.context.close()
    watch.check()


@pytest.fixture(scope="session")
def tiny_page(served: Served, chromium: Browser) -> Iterator[tuple[Page, Watch]]:
    """A page with `tiny` loaded, shared: a test leaves it as it found it."""
    yield from _loaded(served, chromium, "tiny")


@pytest.fixture(scope="module")
def smollm_page(served: Served, chromium: Browser) -> Iterator[tuple[Page, Watch]]:
    """A page with SmolLM2 loaded, shared by one module's tests."""
    yield from _loaded(served, chromium, "smollm2-135m")


@pytest.fixture(scope="module")
def wasm_page(served: Served, chromium_without_webgpu: Browser) -> Iterator[tuple[Page, Watch]]:
    """A page without WebGPU in which a person has loaded SmolLM2 on the processor, shared by one module's tests."""
    served.wait_built("smollm2-135m")
    page, watch = Pages(chromium_without_webgpu, served.url).open("/")
    load_model(page, "smollm2-135m")
    yield page, watch
    assert page.evaluate("window.__violations") == []
    page.context.close()
    watch.check()
