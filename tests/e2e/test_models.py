"""Models in the real page: a picker over three sources, another host only after a yes, pauses, checks that repair."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hybr_testing import RECORDER, Watch, attribute, get_json, shelf, until, wait_core, wait_local
from recording_proxy import recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybr_testing import Served
    from playwright.sync_api import Browser, Locator, Page

OPTION = "[data-testid=model-option][data-model='{}']"
LLAMA = "Llama-3.2-1B-Instruct-q4f32_1-MLC"


def panel(page: Page) -> None:
    """Wait for Panel's views, with the server's models in them."""
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")
    until(lambda: page.get_by_test_id("model-option").count() >= 2, timeout=60, what="the server's models")


def option(page: Page, model: str) -> Locator:
    """A model in the picker."""
    return page.locator(OPTION.format(model))


def opened(page: Page, test_id: str) -> Locator:
    """A section, opened if it was closed."""
    section = page.get_by_test_id(test_id)
    if section.get_attribute("open") is None:
        section.locator("summary").first.click()
    return section


def shows(place: Locator, text: str, *, timeout: float = 60) -> None:
    """Wait until it says so."""
    until(lambda: text in place.inner_text(), timeout=timeout, what=f"{text!r} shown")


@pytest.fixture(scope="module")
def page(served: Served, chromium: Browser) -> Iterator[Page]:
    """A page with Panel's views, shared by the tests that leave it as it was; it has asked its own server alone."""
    context = chromium.new_context()
    context.add_init_script(RECORDER)
    watch = Watch(served.url)
    watch.attach(context)
    page = context.new_page()
    page.goto(served.url)
    wait_core(page)
    panel(page)
    yield page
    assert page.evaluate("window.__violations") == []
    context.close()
    watch.check()


class TestPicker:
    """Looking, without loading."""

    def test_webllms_list_is_searched_and_filtered(self, page: Page) -> None:
        """More than a hundred models, forty at once, each with its host; words and filters narrow them, and say to how many."""
        page.get_by_test_id("models-web").click()
        found = page.get_by_test_id("models-found")
        until(lambda: int((found.inner_text() or "0").split()[0]) > 100, timeout=60, what="more than a hundred models")
        assert page.get_by_test_id("model-option").count() == 40
        page.get_by_test_id("more-models").click()
        until(lambda: page.get_by_test_id("model-option").count() == 80, timeout=10, what="forty more")
        page.get_by_test_id("model-search").fill("llama 3.2 1b")
        until(lambda: " of " in found.inner_text(), timeout=10, what="fewer models")
        names = [one.get_attribute("data-model") or "" for one in page.get_by_test_id("model-option").all()]
        assert names
        assert all("llama-3.2-1b" in name.lower() for name in names)
        assert "from " in option(page, LLAMA).inner_text()
        opened(page, "model-filters")
        page.locator("[data-filter=quantisation]").select_option("q4f32_1")
        until(lambda: page.get_by_test_id("model-option").count() == 1, timeout=10, what="one model")
        page.get_by_test_id("model-search").fill("")
        for name in ("family", "size", "vram", "context"):
            page.get_by_test_id("model-filters").get_by_role("button").click()
            until(lambda: " of " not in found.inner_text(), timeout=10, what="all of them again")
            page.locator(f"[data-filter={name}]").select_option(index=2)
            until(lambda: " of " in found.inner_text(), timeout=10, what=f"fewer by {name}")
        page.get_by_test_id("model-filters").get_by_role("button").click()

    def test_what_does_not_fit_says_why_and_cannot_be_loaded(self, page: Page) -> None:
        """An adapter without half precision: such a model says so, its button is off, and `fits this device` leaves it out."""
        page.get_by_test_id("models-web").click()
        page.get_by_test_id("model-search").fill("SmolLM2-135M q0f16")
        f16 = option(page, "SmolLM2-135M-Instruct-q0f16-MLC")
        until(lambda: f16.count() == 1, timeout=30, what="the f16 model")
        assert f16.get_attribute("data-fits") == "no"
        assert "shader-f16" in f16.inner_text()
        f16.click()
        until(lambda: page.get_by_test_id("load-model").is_disabled(), timeout=10, what="the button off")
        opened(page, "model-filters")
        page.locator("[data-filter=fits]").check()
        shows(page.get_by_test_id("models-found"), "No model is like that", timeout=10)
        page.get_by_test_id("model-filters").get_by_role("button").click()
        page.get_by_test_id("model-search").fill("")
        page.get_by_test_id("models-server").click()

    def test_another_host_is_asked_about_first(self, page: Page) -> None:
        """The question names every host and what it learns; after a no nothing was asked there, and nothing is loading."""
        page.get_by_test_id("models-web").click()
        page.get_by_test_id("model-search").fill(LLAMA)
        until(lambda: option(page, LLAMA).count() == 1, timeout=30, what="the model")
        option(page, LLAMA).click()
        page.get_by_test_id("load-model").click()
        asked = page.get_by_test_id("host-consent")
        until(asked.is_visible, timeout=10, what="the question")
        text = asked.inner_text()
        hosts = [host for host in page.locator("[data-testid=host-consent] li").all_inner_texts() if host.startswith("https://")]
        assert len(hosts) >= 2
        assert "network address" in text
        page.get_by_test_id("refuse-host").click()
        until(lambda: not asked.is_visible(), timeout=10, what="the question gone")
        assert attribute(page, "local-status", "data-state") == "unloaded"
        page.get_by_test_id("model-search").fill("")
        page.get_by_test_id("models-server").click()

    def test_storage_is_told_and_can_be_kept(self, page: Page) -> None:
        """Used and quota stand there; the button asks the browser, whose answer is told either way."""
        storage = page.get_by_test_id("storage")
        shows(storage, " of ")
        before = storage.get_attribute("data-persisted")
        page.get_by_test_id("persist").click()
        told = page.locator(".storage [role=status]")
        until(
            lambda: storage.get_attribute("data-persisted") == "yes" or "did not agree" in told.inner_text(),
            timeout=30,
            what=f"the browser's answer (persisted before: {before})",
        )


@pytest.fixture(scope="module")
def hub(served: Served) -> Iterator[dict[str, Any]]:
    """Another host on this machine: `hybr models serve`, with the same shelf; `tiny` lies at `model`."""
    entry = served.wait_built("tiny")
    with shelf() as (origin, stop):
        assert get_json(f"{origin}/models/index.json")["models"]
        yield {"origin": origin, "model": f"{origin}{entry['base']}", "stop": stop}


def test_a_model_of_another_host_from_its_address_to_an_answer(served: Served, hub: dict[str, Any], chromium: Browser) -> None:
    """Added by its address after a yes; loaded; found again without that host; forbidden and removed in the end.

    The document's own policy names nobody else all the while, and only the allowed host was asked.
    """
    context = chromium.new_context()
    context.add_init_script(RECORDER)
    watch = Watch(served.url, expected=["Failed to load resource"])  # the host that was switched off
    watch.attach(context)
    page = context.new_page()
    policy: list[str] = []
    page.on(
        "response",
        lambda answer: (
            policy.append(answer.headers.get("content-security-policy", "")) if answer.url == f"{served.url}/" else None
        ),
    )
    page.goto(f"{served.url}/")
    wait_core(page)
    panel(page)
    page.get_by_test_id("models-own").click()
    form = opened(page, "add-model")
    form.locator("[name=name]").fill("far")
    form.locator("[name=address]").fill("http://models.example.org/tiny")
    form.get_by_role("button").click()
    shows(form, "must be https://")
    assert form.locator("[name=address]").get_attribute("aria-invalid") == "true"
    form.locator("[name=address]").fill(f"{hub['model']}none/")
    form.get_by_role("button").click()
    until(page.get_by_test_id("host-consent").is_visible, timeout=30, what="the question")
    assert hub["origin"] in page.get_by_test_id("host-consent").inner_text()
    assert watch.foreign() == []
    page.get_by_test_id("allow-host").click()
    shows(page.get_by_test_id("add-result"), "404", timeout=120)
    form.locator("[name=address]").fill(hub["model"])
    form.get_by_role("button").click()
    shows(page.get_by_test_id("add-result"), "far is among your models", timeout=60)
    assert not page.get_by_test_id("host-consent").is_visible()
    until(lambda: option(page, "far").count() == 1, timeout=30, what="the model in the list")
    option(page, "far").click()
    page.get_by_test_id("load-model").click()
    wait_local(page)
    assert attribute(page, "local-status", "data-model") == "far"
    assert _answers(page)
    asked = {urlsplit(url).netloc for url in watch.foreign()}
    assert asked == {urlsplit(hub["origin"]).netloc}
    assert policy
    assert all("127.0.0.1" not in one.split("connect-src")[1].split(";")[0] for one in policy)

    second = context.new_page()  # another tab of the same browser: it shares the engine, and says so
    second.goto(f"{served.url}/")
    wait_core(second)
    wait_local(second)
    shows(second.get_by_test_id("local-status"), "Shared with another tab")
    second.close()

    hub["stop"]()
    before = len(watch.foreign())
    page.reload()  # what is in this browser loads without that host
    wait_core(page)
    wait_local(page)
    assert attribute(page, "local-status", "data-model") == "far"
    assert _answers(page)
    assert len(watch.foreign()) == before

    opened(page, "settings")
    row = page.locator(f"[data-testid=allowed-hosts] [data-host='{hub['origin']}']")
    until(row.is_visible, timeout=30, what="the allowed host")
    row.get_by_role("button").click()
    until(lambda: row.count() == 0, timeout=60, what="forbidden")
    page.get_by_test_id("models-own").click()
    option(page, "far").click()
    page.get_by_test_id("forget-model").click()
    until(lambda: option(page, "far").count() == 0, timeout=60, what="off the list")
    assert page.evaluate("caches.open('webllm/model').then((cache) => cache.keys()).then((keys) => keys.length)") == 0
    context.close()
    assert watch.unexpected() == []


def _answers(page: Page) -> bool:
    """Whether the local model answers."""
    return bool(
        page.evaluate(
            """async () => { const H = await ModuleLoader.getModule('HybridLLMProvider');
                 const done = await H.api.completeLocal([{role: 'user', content: 'Hello'}], {temperature: 0, maxOutputTokens: 3});
                 return done.provider === 'local'; }"""
        )
    )


class Slow:
    """A network that holds a model's weights back for as long as it is told to."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.held: list[str] = []

    def __call__(self, path: str) -> None:
        """Hold this request, if it is one for weights."""
        if "params_shard" in path and not self.free.is_set():
            self.held.append(path)
            self.free.wait(120)


def test_a_download_is_paused_outlives_a_reload_and_is_checked(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """Paused, the model says how much of it is here, also after a reload; resumed it gets ready; cancelled, nothing stays.

    A check sums every file anew, and fetches again what is damaged.
    """
    served.wait_built("tiny")
    network = Slow()
    with recording(served.url, network) as (address, _):
        page, watch = visit("/", base=address)
        _pause_and_check(page, network)
        page.goto("about:blank")
        watch.expected.append("Failed to load resource")


def _pause_and_check(page: Page, network: Slow) -> None:
    """The test itself, over a network that can be held."""
    panel(page)
    option(page, "tiny").click()
    page.get_by_test_id("load-model").click()
    pause = page.get_by_test_id("pause-load")
    until(lambda: network.held and pause.is_visible(), timeout=60, what="the download under way")
    progress = page.get_by_test_id("load-progress")
    shows(progress, "B of ")
    assert re.search(r"\d+\s%", progress.inner_text())
    pause.click()
    wait_local(page, "unloaded", timeout=60)
    until(lambda: option(page, "tiny").get_attribute("data-begun") == "yes", timeout=30, what="what is here of it")
    shows(page.get_by_test_id("load-model"), "Resume")
    page.reload()
    wait_core(page)
    panel(page)
    until(lambda: option(page, "tiny").get_attribute("data-begun") == "yes", timeout=60, what="after a reload too")
    option(page, "tiny").click()
    until(page.get_by_test_id("discard-model").is_visible, timeout=30, what="the button that forgets it")
    network.free.set()
    page.get_by_test_id("load-model").click()
    wait_local(page)
    until(lambda: option(page, "tiny").get_attribute("data-cached") == "yes", timeout=30, what="downloaded")

    result = page.get_by_test_id("model-result")
    page.get_by_test_id("verify-model").click()
    shows(result, "are what they were")
    page.evaluate(
        """async () => {
             const cache = await caches.open('webllm/model');
             const [first] = (await cache.keys()).filter(({url}) => url.includes('params_shard'));
             const kept = await cache.match(first);
             const bytes = new Uint8Array(await kept.arrayBuffer());
             bytes[7] ^= 1;
             await cache.put(first, new Response(bytes, {headers: kept.headers}));
           }"""
    )
    page.get_by_test_id("verify-model").click()
    shows(result, "1 of")
    assert "downloaded again" in result.inner_text()
    page.get_by_test_id("verify-model").click()
    shows(result, "are what they were")
    page.get_by_test_id("delete-model").click()
    until(lambda: option(page, "tiny").get_attribute("data-cached") == "no", timeout=60, what="deleted")

    network.free.clear()
    network.held.clear()
    page.get_by_test_id("load-model").click()
    cancel = page.get_by_test_id("cancel-load")
    until(lambda: network.held and cancel.is_visible(), timeout=60, what="a download to cancel")
    cancel.click()
    wait_local(page, "unloaded", timeout=60)
    until(lambda: option(page, "tiny").get_attribute("data-begun") == "no", timeout=30, what="nothing kept")
    network.free.set()


def test_the_local_only_document_reaches_no_other_host(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """There WebLLM's list says why none of it can be downloaded, and nothing can be added."""
    page, _ = visit("/local")
    panel(page)
    page.get_by_test_id("models-web").click()
    until(lambda: option(page, LLAMA).count() == 1, timeout=60, what="the list")
    assert option(page, LLAMA).get_attribute("data-fits") == "no"
    assert "another host" in option(page, LLAMA).inner_text()
    page.get_by_test_id("models-own").click()
    shows(page.get_by_test_id("model-picker"), "reaches no other host")
    assert not page.get_by_test_id("add-model").is_visible()
