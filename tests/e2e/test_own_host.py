"""The page asks no host but its own. Seen from Chromium's network stack, below every worker, preload and beacon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hybr_testing import RECORDER, launch, until, wait_core, wait_local

if TYPE_CHECKING:
    from pathlib import Path

    from hybr_testing import Served
    from playwright.sync_api import Page, Playwright

ASK = """async (local) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
  const messages = [{role: 'user', content: 'What is the capital of France?'}];
  const options = {temperature: 0, maxOutputTokens: 8};
  return (await (local ? H.api.completeLocal(messages, options) : H.api.completeCloud(messages, options))).provider; }"""


def _session(page: Page, url: str) -> None:
    """A first visit, a model loaded, an answer from each side, a reload."""
    page.goto(f"{url}/?model=tiny&load=1&mode=local")
    wait_core(page)
    wait_local(page)
    assert page.evaluate(ASK, arg=True) == "local"
    assert page.evaluate(ASK, arg=False) == "cloud"
    page.reload()
    wait_core(page)
    wait_local(page)


def test_no_other_host_is_asked(served: Served, playwright_driver: Playwright, tmp_path: Path) -> None:
    """Every URL request of a whole session, as the browser's own network log has it, goes to the server's address."""
    served.wait_built("tiny")
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
