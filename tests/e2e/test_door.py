"""The way in, in a real browser: the printed link, the pasted link, a log-in and a log-out, without a policy violation."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hybr_testing import HYBR, RECORDER, serve, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybr_testing import Served
    from playwright.sync_api import Browser, Page

PASSWORD = "four unrelated small words"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for one person, as `make run` starts it."""
    folder = tmp_path_factory.mktemp("closed")
    with serve(folder / "data", "--no-build", log=folder / "log", env={"HYBR_AUTH": ""}) as running:
        yield running


def fresh(browser: Browser) -> Page:
    """Return a page of a browser that was never here."""
    context = browser.new_context()
    context.add_init_script(RECORDER)
    return context.new_page()


def clean(page: Page) -> None:
    """The page's policy was not violated, and its whole use asked nothing that it may not."""
    assert page.evaluate("window.__violations") == []


def link_of(served: Served) -> str:
    """Return the link that the server printed."""
    until(lambda: "?token=" in served.log.read_text(), timeout=120, what="the link")
    return re.findall(r"http://\S+\?token=\S+", served.log.read_text())[0]


def test_one_person(closed: Served, chromium_without_webgpu: Browser) -> None:
    """Without the link there is a door; pasted, the link opens the page, which then works; it opens no second browser."""
    link = link_of(closed)
    page = fresh(chromium_without_webgpu)
    page.goto(closed.url)
    page.get_by_test_id("door").wait_for()
    assert "terminal" in page.inner_text("main")
    page.fill("input[name=token]", f"{closed.url}/?token=wrong")
    page.click("button")
    page.get_by_text("not this server's link").wait_for()
    clean(page)
    page.fill("input[name=token]", link)
    page.click("button")
    page.get_by_test_id("composer").wait_for()
    assert page.url == f"{closed.url}/"
    assert page.evaluate("fetch('/v1/models').then((answer) => answer.status)") == 200
    assert page.evaluate("document.cookie") == "", "no script reads the cookie"
    clean(page)
    page.context.close()
    other = fresh(chromium_without_webgpu)
    other.goto(f"{link}&mode=cloud")
    other.get_by_text("was used already").wait_for()
    other.context.close()


def test_the_link_opens_the_page(tmp_path: Path, chromium_without_webgpu: Browser) -> None:
    """The printed link leads to the page at its clean address, and the browser is let in after a restart without it."""
    data, port = tmp_path / "data", 0
    with serve(data, "--no-build", log=tmp_path / "log", env={"HYBR_AUTH": "token"}) as running:
        page = fresh(chromium_without_webgpu)
        page.goto(f"{link_of(running)}&mode=cloud")
        page.get_by_test_id("composer").wait_for()
        assert "token" not in page.url
        assert page.url.endswith("/?mode=cloud")
        port = int(running.url.rsplit(":", 1)[1])
        value = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == f"hybr-{port}")
        page.context.close()
    with serve(data, "--no-build", log=tmp_path / "log", env={"HYBR_AUTH": "token"}) as running:
        page = fresh(chromium_without_webgpu)
        name = f"hybr-{running.url.rsplit(':', 1)[1]}"  # the tests' second server has another port
        page.context.add_cookies([{"name": name, "value": value, "url": running.url}])
        page.goto(running.url)
        page.get_by_test_id("composer").wait_for()
        page.context.close()


def test_a_person_logs_in(tmp_path: Path, chromium_without_webgpu: Browser) -> None:
    """A wrong password is said, the right one opens the page; after the log-out the door is back."""
    data = tmp_path / "data"
    with serve(data, "--no-build", log=tmp_path / "log", env={"HYBR_AUTH": "accounts"}) as running:
        command = [str(HYBR), "users", "add", "ada", "--stdin"]
        subprocess.run(
            command, input=PASSWORD, text=True, check=True, timeout=180, env={"HYBR_DATA": str(data), "PATH": "/usr/bin:/bin"}
        )
        page = fresh(chromium_without_webgpu)
        page.goto(running.url)
        for password in ("wrong", PASSWORD):
            page.fill("input[name=name]", "ada")
            page.fill("input[name=password]", password)
            page.click("button")
            if password == "wrong":
                page.get_by_text("do not belong together").wait_for()
        page.get_by_test_id("composer").wait_for()
        assert page.evaluate("fetch('/api/session').then((answer) => answer.json())")["role"] == "user"
        clean(page)
        page.evaluate("fetch('/api/session', {method: 'DELETE'})")
        page.goto(running.url)
        page.get_by_test_id("door").wait_for()
        page.context.close()
