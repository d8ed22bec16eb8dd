"""The fault lab in the real page: a scripted engine and upstream, only on a server that was started for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import Served, events, serve, until, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Watch
    from playwright.sync_api import Page

MODE = "ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())"
SCRIPT: dict[str, Any] = {
    "local": [["The ", "capital ", "of ", "France", {"die": True}], ["One", {"lost": True}]],
    "cloud": [["capital of France", " is ", "Paris."], [{"refuse": [503, "no_model"]}]],
}


def address(script: dict[str, Any]) -> str:
    """The page with that script, its model loaded and mode local wished for."""
    return "/?" + urllib.parse.urlencode({"faults": json.dumps(script), "model": "scripted", "load": "1", "mode": "local"})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has the lab."""
    folder = tmp_path_factory.mktemp("lab")
    with serve(folder / "data", log=folder / "serve.log", env={"HYBR_TEST_FAULTS": "1"}) as running:
        yield running


def answer(page: Page, number: int, question: str) -> Any:
    """Ask in the composer, and wait for the end of the answer; returns its element."""
    page.get_by_test_id("composer").fill(question)
    page.get_by_test_id("composer").press("Enter")
    replies = page.locator("[data-testid=message][data-role=assistant]")
    ended = lambda: replies.count() == number and replies.nth(number - 1).get_attribute("data-state") in {"done", "error"}  # noqa: E731
    until(ended, timeout=120, what=f"answer {number}")
    return replies.nth(number - 1)


def test_a_scripted_death_at_token_four_hands_over(lab: Served, visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """The worker dies after four tokens: the scripted cloud finishes the very sentence in the real page; then both are dead."""
    page, _ = visit_without_webgpu(address(SCRIPT), base=lab.url)
    wait_local(page)
    until(lambda: page.evaluate(MODE) == "local", timeout=30, what="mode local")
    reply = answer(page, 1, "What is the capital of France?")
    assert "The capital of France is Paris." in reply.inner_text()
    assert (reply.get_attribute("data-provider"), reply.get_attribute("data-segments")) == ("cloud", "2")
    (told,) = events(page, "hybrid-llm:handover")
    assert (told["from"], told["to"], told["cause"], told["atChars"]) == ("local", "cloud", "engine_died", 21)
    wait_local(page)  # repaired in the background
    reply = answer(page, 2, "And then?")
    assert reply.get_attribute("data-state") == "error"
    assert "One" in reply.inner_text()
    assert len(events(page, "hybrid-llm:handover")) == 2


def test_without_the_flag_there_is_no_lab(served: Served, visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """An ordinary server has no such file, and the address bar changes nothing: models and server are the real ones."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{served.url}/faults.zip", timeout=10)
    assert refused.value.code == 404
    page, watch = visit_without_webgpu("/?" + urllib.parse.urlencode({"faults": json.dumps(SCRIPT)}))
    watch.expected.append("404 (Not Found)")  # the page asked for the lab, and was told that there is none
    models = page.evaluate("ModuleLoader.getModule('LocalLLM').then((L) => L.api.getAvailableModels())")
    assert "scripted" not in {model["id"] for model in models}
    assert "tiny" in {model["id"] for model in models}
