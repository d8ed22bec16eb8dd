"""The page as a person sees it, both themes, wide and narrow. `make screenshots` also renews the README's picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hybr_testing import attribute, until, wait_local

from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Locator, Page

README_PICTURE = Path(__file__).parent / "screenshots" / "chat.png"
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


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
