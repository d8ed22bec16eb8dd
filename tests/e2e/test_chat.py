"""A person chats: SmolLM2 in the page, the same model through llama.cpp behind the server, and what each reply says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr_testing import events, kill_worker, until, wait_core, wait_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Locator, Page

FRANCE = "What is the capital of France?"


def ask(page: Page, text: str) -> Locator:
    """Type `text`, send it, and return the reply's element."""
    before = page.get_by_test_id("message").count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("send").click()
    until(lambda: page.get_by_test_id("message").count() >= before + 2, timeout=30, what="question and reply shown")
    return page.get_by_test_id("message").nth(before + 1)


def finished(reply: Locator, *, timeout: float = 240) -> str:
    """Wait until the reply is no longer streaming and return its state."""
    until(lambda: reply.get_attribute("data-state") not in {None, "streaming"}, timeout=timeout, what="reply finished")
    return reply.get_attribute("data-state") or ""


class TestCloud:
    """The cloud side, as a first visitor meets it."""

    def test_the_house_model_answers_paris(self, visit: Callable[..., tuple[Page, Watch]]) -> None:
        """A first visitor asks in cloud mode and llama.cpp answers, streamed, with its statistics."""
        page, _ = visit("/?mode=cloud")
        reply = ask(page, FRANCE)
        assert finished(reply) == "done"
        assert "Paris" in reply.inner_text()
        assert reply.get_attribute("data-provider") == "cloud"
        assert "tok/s" in reply.get_by_test_id("stats").inner_text()

    def test_stop_keeps_what_was_shown(self, visit: Callable[..., tuple[Page, Watch]]) -> None:
        """Stop ends the reply as `stopped`, keeps its text and starts nothing else."""
        page, _ = visit("/?mode=cloud")
        reply = ask(page, "Write a very long story about a dragon and a princess, with many chapters.")
        until(lambda: len(reply.inner_text()) > 40, timeout=60, what="some text streamed")
        page.get_by_test_id("stop").click()
        assert finished(reply, timeout=20) == "stopped"
        assert len(reply.inner_text()) > 40
        assert events(page, "hybrid-llm:fallback") == []

    def test_an_empty_message_is_not_sent(self, visit: Callable[..., tuple[Page, Watch]]) -> None:
        """White space in the composer sends nothing, and the interface names the field when a script tries."""
        page, _ = visit("/?mode=cloud")
        page.get_by_test_id("composer").fill("   ")
        page.get_by_test_id("composer").press("Enter")
        assert page.get_by_test_id("message").count() == 0
        error = page.evaluate(
            """async () => { const H = await ModuleLoader.getModule('HybridLLMProvider');
                 try { await H.api.complete([{role: 'user', content: ''}]); return null; }
                 catch (e) { return {isError: e instanceof Error, name: e.name, message: e.message, code: e.code}; } }"""
        )
        assert error["isError"]
        assert "content" in error["message"]
        assert error["code"]


def test_the_blueprint_snippet_runs_as_written(visit: Callable[..., tuple[Page, Watch]]) -> None:
    """Section 2 of the blueprint, letter for letter, with the globals it takes for granted."""
    page, _ = visit("/")
    result: dict[str, Any] = page.evaluate(
        """async () => {
            const messages = [{role: 'user', content: 'What is the capital of France?'}];
            const options = {temperature: 0, maxOutputTokens: 32};
            const Hybrid = await ModuleLoader.getModule('HybridLLMProvider');
            await Hybrid.init(cloudClient);
            Hybrid.api.setMode('local'); // or 'cloud'
            const result = await Hybrid.api.complete(messages, options);
            return result;
        }"""
    )
    assert "Paris" in result["text"]
    assert result["provider"] == "cloud", "no local model is loaded: setMode('local') is refused and the cloud answers"
    assert result["usage"]["totalTokens"] == result["usage"]["promptTokens"] + result["usage"]["completionTokens"] > 0


class TestLocal:
    """SmolLM2 on WebGPU in the page. The order matters: the last test kills the engine."""

    def test_it_answers_paris_streamed(self, smollm_page: tuple[Page, Watch]) -> None:
        """The capital of France, in local mode, arriving in more than one piece and without a request to the server's model."""
        page, watch = smollm_page
        asked = len(watch.requests)
        reply = ask(page, FRANCE)
        assert finished(reply) == "done"
        assert "Paris" in reply.inner_text()
        assert reply.get_attribute("data-provider") == "local"
        assert "tok/s" in reply.get_by_test_id("stats").inner_text()
        assert not [url for url in watch.requests[asked:] if "/v1/chat" in url]

    def test_chunks_keep_the_contract(self, smollm_page: tuple[Page, Watch]) -> None:
        """`stream` yields deltas that add up to `text`, one `done` chunk with usage and timings, from `local`."""
        page, _ = smollm_page
        chunks: list[dict[str, Any]] = page.evaluate(
            """async (question) => { const H = await ModuleLoader.getModule('HybridLLMProvider');
                 const chunks = [];
                 for await (const chunk of H.api.stream([{role: 'user', content: question}],
                     {temperature: 0, maxOutputTokens: 6}))
                   chunks.push(chunk);
                 return chunks; }""",
            FRANCE,
        )
        assert len(chunks) > 2
        assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        text = ""
        for chunk in chunks:
            text += chunk["delta"]
            assert chunk["text"] == text
            assert chunk["provider"] == "local"
        assert chunks[-1]["usage"]["completionTokens"] > 0
        assert chunks[-1]["timings"]["ttftMs"] > 0

    def test_reload_brings_mode_and_model_back(self, smollm_page: tuple[Page, Watch]) -> None:
        """After a reload the preferred mode and model are there, in force once the model is ready, and nobody clicked."""
        page, watch = smollm_page
        page.goto(watch.origin + "/")
        wait_core(page)
        status = page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getStatus())")
        assert status["preferredMode"] == "local"
        wait_local(page)
        until(
            lambda: page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getMode())") == "local",
            timeout=10,
            what="mode local in force",
        )
        assert page.get_by_test_id("local-status").first.get_attribute("data-model") == "smollm2-135m"
        assert [event["manual"] for event in events(page, "hybrid-llm:mode-changed")] == [False]

    def test_engine_killed_before_the_first_token(self, smollm_page: tuple[Page, Watch]) -> None:
        """The worker dies during prefill: one fallback event, one toast, one answer from the cloud."""
        page, _ = smollm_page
        page.evaluate(
            """(question) => { window.__answer = ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.complete(
                 [{role: 'user', content: question}], {temperature: 0, maxOutputTokens: 24})); }""",
            " ".join([FRANCE] * 30),  # long enough to be killed while it is read
        )
        until(
            lambda: page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.getStatus())")["active"] == 1,
            timeout=10,
            what="the request is under way",
            every=0.02,
        )
        kill_worker(page, "engine")
        answer = page.evaluate("window.__answer")
        assert answer["provider"] == "cloud"
        assert answer["text"]
        assert answer["fallback"]["from"] == "local"
        fallbacks = events(page, "hybrid-llm:fallback")
        assert [(event["from"], event["to"]) for event in fallbacks] == [("local", "cloud")]
        assert {"name", "message", "code"} <= fallbacks[0]["error"].keys()
        assert page.locator("[data-testid=toast][data-kind=fallback]").count() == 1


def test_engine_killed_in_mid_load(served: Served, visit: Callable[..., tuple[Page, Watch]]) -> None:
    """The worker dies while `tiny` loads: one fallback event, one toast, one answer, from the cloud."""
    served.wait_built("tiny")
    page, _ = visit("/?mode=local&model=tiny&load=1")
    until(lambda: any(event.get("progress", 0) > 0 for event in events(page, "local-llm:progress")), timeout=120, what="loading")
    kill_worker(page, "engine")
    until(lambda: events(page, "local-llm:error"), timeout=60, what="local-llm:error")
    reply = ask(page, FRANCE)
    assert finished(reply) == "done"
    assert reply.get_attribute("data-provider") == "cloud"
    assert "Paris" in reply.inner_text()
    assert len(events(page, "hybrid-llm:fallback")) == 1
    assert page.locator("[data-testid=toast][data-kind=fallback]").count() == 1
