"""A browser that has no WebGPU: the page says so and what would change it; until a model is loaded the house model answers.

What a model then does on the processor is test_wasm.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr_testing import attribute, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Page


def test_the_page_says_why_and_the_cloud_answers(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """`local-status` carries `data-webgpu="no"` with a readable reason and remedy; with nothing loaded the house answers."""
    page, _ = visit_without_webgpu("/")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "no", timeout=120, what="data-webgpu=no")
    assert attribute(page, "local-status", "data-state") == "unloaded"  # a local runtime can run here: llama.cpp on the processor
    assert attribute(page, "local-status", "data-runtime") == "wasm"
    told = page.get_by_test_id("local-status").first.inner_text()
    assert "No WebGPU here, so the model runs on the processor" in told
    assert "graphics driver" in told or "Chrome" in told  # what would change it
    page.get_by_test_id("composer").fill("What is the capital of France?")
    page.get_by_test_id("composer").press("Enter")
    reply = page.locator("[data-testid=message][data-role=assistant]")
    until(lambda: reply.count() == 1 and reply.get_attribute("data-state") == "done", timeout=120, what="reply")
    assert "Paris" in reply.inner_text()
    assert reply.get_attribute("data-provider") == "cloud"


def test_in_german_the_reason_is_german(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """Welcome, status and doctor say why no WebGPU runs here and what would change it in the page's language."""
    page, _ = visit_without_webgpu("/", locale="de-DE")
    until(lambda: attribute(page, "local-status", "data-webgpu") == "no", timeout=120, what="data-webgpu=no")
    page.get_by_test_id("open-doctor").click()
    check = page.locator("[data-check=webgpu]")
    until(check.is_visible, timeout=30, what="the doctor")
    for told in (
        page.get_by_test_id("local-status").first.inner_text(),
        page.locator("#hello").inner_text(),
        check.inner_text(),
    ):
        assert "Grafiktreiber" in told or "Dieser Browser hat kein WebGPU" in told
        assert "browser has" not in told


def test_local_comes_with_the_model(visit_without_webgpu: Callable[..., tuple[Page, Watch]], served: Served) -> None:
    """With no model loaded `setMode('local')` is False; a model loads on the processor, and then the mode is in force."""
    served.wait_built("tiny")
    page, _ = visit_without_webgpu("/")
    outcome = page.evaluate(
        """async () => { const H = await ModuleLoader.getModule('HybridLLMProvider');
             const L = await ModuleLoader.getModule('LocalLLM');
             const before = [await H.api.setMode('local'), await H.api.getMode()];
             return {before, init: await L.api.init('tiny'), after: [await H.api.setMode('local'), await H.api.getMode()]}; }"""
    )
    assert outcome == {"before": [False, "cloud"], "init": True, "after": [True, "local"]}
    until(lambda: attribute(page, "local-status", "data-state") == "ready", timeout=30, what="the panel to say so")
