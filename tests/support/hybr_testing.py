"""What the browser tests and the benches share: a real server, a real Chromium, and a page that is watched.

The page's policy allows no eval, which Playwright's `wait_for_function` needs, so waiting here polls with `evaluate`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright

T = TypeVar("T")

CHROMIUM = os.environ.get("HYBR_CHROMIUM", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Debian's Chromium on the CPU: SwiftShader as the WebGPU adapter (facts/page-runtime.md).
WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
HYBR = Path(sys.executable).with_name("hybr")
BUSY = 60.0  # seconds that every wait has at least: what takes one here may take ten on a machine with other work


def free_port() -> int:
    """Return a TCP port on the loopback that was free a moment ago, and that no outgoing connection will be given meanwhile.

    Those of a busy browser take their ports out of the system's own range, where `bind` to port 0 finds one too.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none of 200 ports is free")


def until(check: Callable[[], T], *, timeout: float, what: str, every: float = 0.1) -> T:
    """Return the first truthy `check()`; raise `AssertionError` naming `what` after `timeout` seconds, or `BUSY` if that is more.

    It asks again soon at first and then `every` so many seconds.
    """
    end = time.monotonic() + max(timeout, BUSY)
    wait = min(0.01, every)
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {max(timeout, BUSY):g} s; last value {value!r}")
        time.sleep(wait)
        wait = min(every, wait * 1.5)


def get_json(url: str) -> Any:
    """Return the JSON at `url`."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def answers(url: str) -> bool:
    """Tell whether `url` answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class Served:
    """A running `hybr serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def model(self, model_id: str) -> dict[str, Any]:
        """Return the catalogue's entry for `model_id`."""
        models = get_json(f"{self.url}/models/index.json")["models"]
        return next(entry for entry in models if entry["id"] == model_id)

    def wait_built(self, model_id: str, *, timeout: float = 1800) -> dict[str, Any]:
        """Wait for the server's background build of `model_id` and return its entry."""

        def built() -> dict[str, Any] | None:
            entry = self.model(model_id)
            assert entry["state"] != "failed", f"building {model_id} failed: {entry['error']}\n{self.log.read_text()[-4000:]}"
            return entry if entry["state"] == "built" else None

        return until(built, timeout=timeout, what=f"{model_id} built", every=1.0) or {}


@contextlib.contextmanager
def serve(data: Path, *arguments: str, log: Path, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Run `hybr serve` on a free loopback port until the block ends; the cache is shared, the data are `data`'s."""
    port = free_port()
    environ = {**os.environ, "HYBR_DATA": str(data), "HYBR_AUTH": "off", **(env or {})}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(HYBR), "serve", "--port", str(port), *arguments],
            env=environ,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:

        def ready() -> bool:
            assert process.poll() is None, f"hybr serve ended with {process.returncode}:\n{log.read_text()[-4000:]}"
            return answers(f"{url}/healthz")

        until(ready, timeout=180, what="hybr serve answers /healthz")
        yield Served(url, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def shelf() -> Iterator[tuple[str, Callable[[], None]]]:
    """Run `hybr models serve` until the block ends, or until it is stopped; yields its origin and what stops it."""
    port = free_port()
    process = subprocess.Popen([str(HYBR), "models", "serve", "--port", str(port)], env=os.environ.copy(), start_new_session=True)
    origin = f"http://127.0.0.1:{port}"

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)

    def up() -> bool:
        assert process.poll() is None
        try:
            return bool(get_json(f"{origin}/models/index.json"))
        except OSError:
            return False

    try:
        until(up, timeout=60, what="the other host answers")
        yield origin, stop
    finally:
        if process.poll() is None:
            stop()


def launch(playwright: Playwright, *, webgpu: bool = True, extra: list[str] | None = None) -> Browser:
    """Start headless Chromium, with the software WebGPU adapter or with none."""
    arguments = [*QUIET, *(WEBGPU if webgpu else ["--disable-gpu"]), *(extra or [])]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@dataclass
class Watch:
    """Everything a page (and its workers) asked for and complained about."""

    origin: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        """Record every request, console error, uncaught exception and policy violation of `context`."""
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("console", self._console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text}")

    def foreign(self) -> list[str]:
        """Return the requests that left the page's own origin."""
        local = ("blob", "data", "chrome-extension")
        own = urlsplit(self.origin).netloc
        return [url for url in self.requests if urlsplit(url).scheme not in local and urlsplit(url).netloc != own]

    def unexpected(self) -> list[str]:
        """Return the errors that no test announced in `expected` (substrings)."""
        return [error for error in self.errors if not any(known in error for known in self.expected)]

    def check(self) -> None:
        """Assert that the page kept to its own host and complained of nothing unannounced."""
        assert not self.foreign(), self.foreign()
        assert not self.unexpected(), self.unexpected()


# Every CustomEvent of the contract, kept in order for tests to read; installed before any page script runs. Workers are kept too,
# so that a test can kill one as a crash would.
RECORDER = """
(() => {
  window.__events = [];
  for (const name of ['hybrid-llm:mode-changed', 'hybrid-llm:fallback', 'hybrid-llm:handover', 'hybrid-llm:complete',
    'hybrid-llm:stream-complete', 'hybrid-llm:stream-error', 'local-llm:loading', 'local-llm:progress', 'local-llm:ready',
    'local-llm:error', 'local-llm:unloaded'])
    window.addEventListener(name, (event) => window.__events.push({name, detail: event.detail, at: performance.now()}));
  window.__violations = [];
  document.addEventListener('securitypolicyviolation', (event) =>
    window.__violations.push(event.blockedURI + ' ' + event.violatedDirective));
  window.__workers = [];
  const Native = window.Worker;
  window.Worker = class extends Native {
    constructor(url, options) { super(url, options); window.__workers.push({url: String(url), worker: this}); }
  };
})();
"""


def events(page: Page, name: str) -> list[dict[str, Any]]:
    """Return the details of all `name` events so far, in order."""
    found: list[dict[str, Any]] = page.evaluate(
        "(name) => window.__events.filter((e) => e.name === name).map((e) => e.detail)", name
    )
    return found


def kill_worker(page: Page, word: str) -> None:
    """Terminate the newest worker whose URL contains `word`, as a crash would: nobody in the page is told."""
    page.evaluate("(word) => window.__workers.filter((w) => w.url.includes(word)).at(-1).worker.terminate()", word)


def attribute(page: Page, test_id: str, name: str) -> str | None:
    """Return an attribute of the element with `test_id`, or None while it is not there."""
    found = page.get_by_test_id(test_id)
    return found.first.get_attribute(name) if found.count() else None


def wait_core(page: Page, *, timeout: float = 120) -> None:
    """Wait until `ModuleLoader` hands out the orchestrator."""
    page.evaluate(
        """(ms) => Promise.race([ModuleLoader.getModule('HybridLLMProvider').then(() => true),
             new Promise((_, reject) => setTimeout(() => reject(new Error('core not ready')), ms))])""",
        timeout * 1000,
    )


def load_model(page: Page, model: str) -> None:
    """Choose a model and load it with the page's own controls, as a person does."""
    until(lambda: page.get_by_test_id("model-option").count() > 0, timeout=120, what="the models")
    page.locator(f"[data-testid=model-option][data-model='{model}']").first.click()
    page.get_by_test_id("load-model").first.click()
    wait_local(page)


def wait_local(page: Page, state: str = "ready", *, timeout: float = 300) -> None:
    """Wait for `local-status` to show `state`."""
    until(
        lambda: attribute(page, "local-status", "data-state") == state,
        timeout=timeout,
        what=f"local-status {state} (now {attribute(page, 'local-status', 'data-state')})",
        every=0.25,
    )
