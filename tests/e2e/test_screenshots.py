"""The page as a person sees it, both themes, wide and narrow. `make screenshots` also renews the README's picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from exchange_desk import conversation
from hybr_testing import attribute, until, wait_local

from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Locator, Page

README_PICTURE = Path(__file__).parent / "screenshots" / "chat.png"
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
LONG = (
    "Euler's $e^{i\\pi} + 1 = 0$:\n\n$$\\int_0^1 x^2\\,dx = \\tfrac13$$\n\n"
    "```python\ndef area(x: float) -> float:\n    return x ** 3 / 3\n```\n\n"
    "| x | area |\n|---|---|\n| 1 | 0.33 |\n"
)
SHELF = "(await import(document.querySelector('meta[name=assets]').content + '/js/shelf.js')).shelf"


def _answered(page: Page, question: str) -> Locator:
    """Ask, and return the reply once it is done."""
    replies = page.locator("[data-testid=message][data-role=assistant]")
    before = replies.count()
    page.get_by_test_id("composer").fill(question)
    page.get_by_test_id("composer").press("Enter")
    until(
        lambda: replies.count() > before and replies.nth(before).get_attribute("data-state") == "done",
        timeout=240,
        what=f"reply to {question!r}",
    )
    return replies.nth(before)


def test_screenshots_of_a_chat_in_local_mode(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """SmolLM2 has answered in the page: nothing overflows in any size, and the picture shows reply, badge and controls."""
    served.wait_built("smollm2-135m")
    page, _ = visit("/?model=smollm2-135m&load=1&mode=local", viewport={"width": 1280, "height": 800})
    wait_local(page)
    until(lambda: attribute(page, "mode", "data-mode") == "local", timeout=30, what="local mode in the control")
    reply = _answered(page, "What is the capital of France?")
    assert reply.get_attribute("data-provider") == "local"
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"sideways scroll at {width} px"
            page.screenshot(path=folder / f"chat-{size}-{scheme}.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(300)
    for mode in ("local", "cloud", "auto", "local-only", "cloud-only"):
        box = page.get_by_test_id(f"mode-{mode}").bounding_box()
        assert box, mode
        assert box["x"] + box["width"] <= 1280, f"the choice {mode} is cut off"
    picture = page.screenshot()
    assert len(picture) > 20_000, "an empty page makes a small picture"
    if os.environ.get("HYBR_SCREENSHOTS"):
        README_PICTURE.parent.mkdir(exist_ok=True)
        README_PICTURE.write_bytes(picture)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots_without_webgpu(scheme: str, visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """Where no local model can run, the first screen says so in words."""
    page, _ = visit_without_webgpu("/", viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    until(lambda: attribute(page, "local-status", "data-webgpu") == "no", timeout=120, what="data-webgpu=no")
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"no-webgpu-{scheme}.png")
    assert "WebGPU" in page.locator("body").inner_text()


def _shots(page: Page, name: str, *, opens: str = "", at: Locator | None = None) -> None:
    """One screen in both sizes and themes, nothing wider than the window; `opens` shows it when narrow, `at` is in sight."""
    folder = home() / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            if opens and size == "narrow":
                page.locator(opens).click()
                page.wait_for_timeout(500)
            if at:
                at.scroll_into_view_if_needed()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: sideways scroll at {width} px"
            page.screenshot(path=folder / f"{name}-{size}-{scheme}.png")
    page.set_viewport_size({"width": 1280, "height": 800})


ALL = pytest.mark.skipif(not os.environ.get("HYBR_SCREENSHOTS"), reason="every screen is for `make screenshots`")


@pytest.fixture
def talked(visit: Callable[..., tuple[Page, Watch]]) -> Page:
    """A page with a conversation of two branches, code, a table and formulas on its shelf, and others beside it."""
    page, watch = visit("/", viewport={"width": 1280, "height": 800})
    watch.expected.append("404")  # the sync's sheet asks the server whether there is one already
    until(page.get_by_test_id("mode").is_visible, timeout=120, what="the panel")
    _shots(page, "welcome")
    texts = [("q", None, "user", "What is the area?"), ("a", "q", "assistant", "A third."), ("b", "q", "assistant", LONG)]
    rows = [conversation("area", texts), *(conversation(f"other-{n}", [(f"m{n}", None, "user", "Hello")]) for n in range(8))]
    page.evaluate(f"async (rows) => {{ for (const row of rows) await {SHELF}.write(row); }}", rows)
    return page


@ALL
def test_screenshots_of_chat_and_history(talked: Page) -> None:
    """The welcome, search, a chat with branches, code and a formula, the list of chats, palette and keys."""
    talked.get_by_test_id("search-history").fill("Euler")
    until(lambda: talked.get_by_test_id("search-hit").count() == 1, timeout=60, what="the hit")
    _shots(talked, "search", opens="#history-toggle")
    talked.get_by_test_id("search-hit").click()
    until(lambda: talked.locator(".katex").count() > 0, timeout=60, what="the formula")
    talked.get_by_test_id("search-history").fill("")
    _shots(talked, "branches")
    for keys, name in (("Control+k", "palette"), ("?", "shortcuts")):
        talked.evaluate("document.activeElement?.blur()")
        talked.keyboard.press(keys)
        until(talked.get_by_test_id(name).is_visible, timeout=30, what=name)
        _shots(talked, name)
        talked.keyboard.press("Escape")
    _shots(talked, "history", opens="#history-toggle")


@ALL
def test_screenshots_of_the_panel(talked: Page) -> None:
    """Each section open: telemetry, what left the browser, settings with keys, doctor; telemetry wide; the egress question."""
    for name in ("telemetry", "egress-log", "settings", "doctor"):
        section = talked.get_by_test_id(name)
        until(section.is_visible, timeout=60, what=name)
        section.locator("summary").first.click()
        _shots(talked, name, opens="#panel-toggle", at=section)
        section.locator("summary").first.click()
    talked.get_by_test_id("telemetry").locator("summary").first.click()
    talked.get_by_role("button", name="Wide", exact=True).click()
    _shots(talked, "telemetry-wide", opens="#panel-toggle", at=talked.get_by_test_id("telemetry"))
    talked.get_by_test_id("telemetry").locator("summary").first.click()
    talked.get_by_test_id("egress-policy").select_option("ask")
    talked.get_by_test_id("composer").fill("Write to ada@example.org")
    talked.get_by_test_id("send").click()
    until(talked.get_by_test_id("egress-ask").is_visible, timeout=30, what="the question")
    _shots(talked, "egress-question")
    talked.get_by_test_id("egress-keep").click()


@ALL
def test_screenshots_of_models_and_forms(talked: Page) -> None:
    """WebLLM's list with its filters, the question before another host, a persona, the settings of answers, prompts, sync."""
    talked.get_by_test_id("models-web").click()
    until(lambda: talked.get_by_test_id("model-option").count() > 10, timeout=60, what="WebLLM's list")
    talked.get_by_test_id("model-filters").locator("summary").click()
    _shots(talked, "models", opens="#panel-toggle", at=talked.get_by_test_id("models-found"))
    talked.get_by_test_id("model-filters").locator("summary").click()
    talked.get_by_test_id("model-option").first.click()
    talked.get_by_test_id("load-model").click()
    until(talked.get_by_test_id("host-consent").is_visible, timeout=30, what="the question")
    _shots(talked, "host-question")
    talked.get_by_test_id("refuse-host").click()
    talked.get_by_test_id("new-persona").click()
    _shots(talked, "persona", opens="#panel-toggle", at=talked.get_by_test_id("save-persona"))
    generation = talked.get_by_test_id("generation")
    generation.locator("summary").first.click()
    _shots(talked, "generation", opens="#panel-toggle", at=generation)
    for words, name in (("prompt library", "promptbook"), ("sync", "sync")):
        talked.keyboard.press("Escape")
        talked.get_by_test_id("composer").focus()
        talked.keyboard.press("Control+k")
        talked.keyboard.type(words)
        talked.keyboard.press("Enter")
        until(lambda: talked.locator("dialog[open]").count() == 1, timeout=30, what=name)
        _shots(talked, name)


@ALL
def test_screenshots_of_local_and_no_webgpu(
    visit: Callable[..., tuple[Page, Watch]], visit_without_webgpu: Callable[..., tuple[Page, Watch]]
) -> None:
    """The document that nothing leaves, and the page where no WebGPU is."""
    page, _ = visit("/local")
    until(page.get_by_test_id("mode").is_visible, timeout=120, what="the panel")
    _shots(page, "local")
    page, _ = visit_without_webgpu("/")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "no", timeout=120, what="data-webgpu=no")
    _shots(page, "no-webgpu")
