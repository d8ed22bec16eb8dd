"""The page asks no host but its own. Seen from Chromium's network stack, below every worker, preload and beacon.

Its model was mirrored from an imitation of the publisher, who has gone away since: a deployment needs no other host.
"""

from __future__ import annotations

import dataclasses
import io
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hybr_testing import RECORDER, launch, serve, until, wait_core, wait_local
from tests.support import model_hub

from hybr.mlc_build import mirror
from hybr.mlc_build.build import build
from hybr.server import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybr_testing import Served
    from playwright.sync_api import Page, Playwright

ASK = """async (local) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
  const messages = [{role: 'user', content: 'What is the capital of France?'}];
  const options = {temperature: 0, maxOutputTokens: 8};
  return (await (local ? H.api.completeLocal(messages, options) : H.api.completeCloud(messages, options))).provider; }"""


def _session(page: Page, url: str) -> None:
    """A first visit, a model loaded, an answer from each side, a reload."""
    page.goto(f"{url}/?model=mirrored&load=1&mode=local")
    wait_core(page)
    wait_local(page)
    assert page.evaluate(ASK, arg=True) == "local"
    assert page.evaluate(ASK, arg=False) == "cloud"
    page.reload()
    wait_core(page)
    wait_local(page)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server with one model, `tiny` as its publisher would have it, and this machine's page and house model."""
    tiny, real, home = build("tiny", stream=io.StringIO()), paths.home(), tmp_path / "home"
    home.mkdir()
    for name in ("page", "sources"):
        (home / name).symlink_to(real / name)
    monkeypatch.setenv("HYBR_HOME", str(home))
    with model_hub.serving() as hub:
        hub.files = {f"{model_hub.BASE}/resolve/main/{file.name}": file.read_bytes() for file in tiny.iterdir()}
        hub.files[model_hub.LIBRARY] = (tiny / "model-software.wasm").read_bytes()
        record = dataclasses.replace(hub.record(), overrides={"context_window_size": 512}, vram_bytes=0)
        mirror.mirror(mirror.Remote("mirrored", record), stream=io.StringIO())
    with serve(tmp_path / "data", "--no-build", log=tmp_path / "serve.log") as running:
        yield running


@pytest.mark.models
def test_no_other_host_is_asked(served: Served, playwright_driver: Playwright, tmp_path: Path) -> None:
    """Every URL request of a whole session, as the browser's own network log has it, goes to the server's address."""
    log = tmp_path / "net.json"
    browser = launch(playwright_driver, extra=[f"--log-net-log={log}"])
    context = browser.new_context()
    context.add_init_script(RECORDER)
    page = context.new_page()
    _session(page, served.url)
    assert page.evaluate("window.__violations") == []
    browser.close()
    until(log.exists, timeout=10, what="the network log")
    own = urlsplit(served.url).netloc
    # Chromium itself calls home for updates, accounts and form hints; those have "not an origin" as their initiator.
    asked = re.findall(rf'"initiator":"http://{re.escape(own)}".*?"url":"([^"]+)"', log.read_text(errors="replace"))
    assert len(asked) > 20, "the log was not read"
    assert {urlsplit(url).netloc for url in asked if urlsplit(url).scheme not in {"blob", "data"}} == {own}
