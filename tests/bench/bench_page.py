"""First visit and boot of the page, cold and warm, against a bare Pyodide booted by the same browser in the same run."""

from __future__ import annotations

import contextlib
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Figure, bench
from hybr_testing import attribute, launch, serve, until, wait_core
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, BrowserContext

LIMIT_BYTES = 12_000_000  # issue 2: first visit's transfer with brotli, before the model

# What any Pyodide page pays before its first line of Python: the peer for our boot.
BARE = """async (assets) => {
  const begin = performance.now();
  const url = URL.createObjectURL(new Blob([`import {loadPyodide} from '${assets}/vendor/pyodide/pyodide.mjs';
    await loadPyodide({indexURL: '${assets}/vendor/pyodide/'}); postMessage('up');`], {type: 'text/javascript'}));
  await new Promise((resolve, reject) => { const worker = new Worker(url, {type: 'module'});
    worker.onmessage = resolve; worker.onerror = reject; });
  return (performance.now() - begin) / 1000; }"""


@contextlib.contextmanager
def _running() -> Iterator[tuple[Served, Browser]]:
    """Yield a server of our own and a browser with the software adapter."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as driver,
        serve(Path(folder), "--no-build", log=Path(folder) / "log") as served,
    ):
        browser = launch(driver)
        yield served, browser
        browser.close()


def _visit(context: BrowserContext, served: Served) -> tuple[float, float, float, int]:
    """Open the page; return seconds to first paint, to answering, to the Panel controls, and the bytes transferred."""
    page = context.new_page()
    sizes: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    begin = time.monotonic()
    page.goto(served.url, wait_until="domcontentloaded")  # the shell's modules have run: ModuleLoader is there
    wait_core(page)
    core = time.monotonic() - begin
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control", every=0.05)
    controls = time.monotonic() - begin
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0") / 1000
    page.close()
    return paint, core, controls, sum(sizes)


@bench
def page_boot() -> Iterator[Figure]:
    """Seconds to an interactive page."""
    with _running() as (served, browser):
        context = browser.new_context()
        cold = _visit(context, served)
        warm = _visit(context, served)
        page = context.new_page()
        page.goto(served.url)
        assets = page.evaluate("new URL(document.querySelector('script[src]').src).pathname.split('/').slice(0, 3).join('/')")
        bare = page.evaluate(BARE, served.url + assets)
    for name, times in (("cold", cold), ("warm", warm)):
        yield Figure(f"page.{name}.first_paint", times[0], "s", "bare Pyodide boot", bare, "server on loopback")
        yield Figure(f"page.{name}.answering", times[1], "s", "bare Pyodide boot", bare, "orchestrator answers; composer live")
        yield Figure(f"page.{name}.controls", times[2], "s", "bare Pyodide boot", bare, "Panel's controls mounted")


@bench
def page_transfer() -> Iterator[Figure]:
    """Bytes over the wire on a first visit, as the server counts what it would send: brotli where there is a sibling."""
    with _running() as (served, browser):
        context = browser.new_context()
        urls: set[str] = set()
        context.on("request", lambda request: urls.add(request.url))
        _visit(context, served)
        total = sum(_encoded(url) for url in urls if url.startswith(served.url))
    yield Figure("page.first_visit_bytes", total, "bytes", "limit: 12 MB before the model", LIMIT_BYTES, f"{len(urls)} requests")


def _encoded(url: str) -> int:
    """Return the bytes of the body that a browser accepting brotli is sent for `url`."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "br"})
    try:
        with urllib.request.urlopen(request) as answer:
            return len(answer.read())
    except OSError:
        return 0
