"""The shell with the real Python and the real server: what no scripted worker can vouch for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybr_testing import kill_worker, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr_testing import Served, Watch
    from playwright.sync_api import Browser, Page

HYBRID = "ModuleLoader.getModule('HybridLLMProvider')"
QUESTION = "[{role: 'user', content: 'Write a very long story about a dragon and a princess, with many chapters.'}]"


def test_a_question_asked_before_python_is_up_is_answered(served: Served, chromium_without_webgpu: Browser) -> None:
    """Typed and sent into the first frame, it goes out when the orchestrator is there, and is answered."""
    with chromium_without_webgpu.new_context() as context:
        page = context.new_page()
        page.goto(served.url, wait_until="domcontentloaded")
        page.get_by_test_id("composer").fill("What is the capital of France?")
        page.get_by_test_id("composer").press("Enter")
        reply = page.locator("[data-testid=message][data-role=assistant]")
        until(lambda: reply.count() == 1 and reply.get_attribute("data-state") == "done", timeout=180, what="reply")
        assert "Paris" in reply.inner_text()


def test_python_killed(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """The orchestrator's worker dies: waiting calls fail, the page says so, and a reload brings all back with the draft."""
    page, _ = visit_without_webgpu("/")
    page.get_by_test_id("composer").fill("half a thought")
    page.evaluate(f"() => {{ {HYBRID}.then((H) => H.api.complete({QUESTION})).catch((e) => {{ window.code = e.code; }}); }}")
    kill_worker(page, "python")
    until(lambda: page.get_by_role("dialog").is_visible(), timeout=20, what="dialog")
    assert until(lambda: page.evaluate("window.code"), timeout=10, what="the call's rejection") == "python_died"
    page.get_by_role("button", name="Reload").click()
    page.wait_for_load_state()
    wait_core(page)
    assert page.get_by_test_id("composer").input_value() == "half a thought"


def test_a_cloud_client_of_ones_own(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """`Hybrid.init(client)` sends cloud requests to that client and none to the server; its errors come back by name."""
    page, watch = visit_without_webgpu("/?mode=cloud")
    asked = len(watch.requests)
    result = page.evaluate(
        f"""async () => {{ const H = await {HYBRID};
             const complete = async (messages, {{temperature}}) => ({{text: `${{messages.at(-1).content}} at ${{temperature}}`}});
             await H.init({{complete}});
             return H.api.complete([{{role: 'user', content: 'Echo'}}], {{temperature: 0.5}}); }}"""
    )
    assert result["text"] == "Echo at 0.5"
    assert result["provider"] == "cloud"
    assert not [url for url in watch.requests[asked:] if "/v1/chat" in url]
    error = page.evaluate(
        f"""async () => {{ const H = await {HYBRID};
             await H.init({{complete: async () => {{ throw new Error('my own failure'); }}}});
             return H.api.complete([{{role: 'user', content: 'x'}}]).catch((e) => ({{message: e.message, code: e.code}})); }}"""
    )
    assert "my own failure" in error["message"]
    assert error["code"]


def test_stops_from_scripts(visit_without_webgpu: Callable[..., tuple[Page, Watch]]) -> None:
    """An AbortSignal stops a stream and a call; each ends as `Aborted` with what there was, and no chunk follows."""
    page, _ = visit_without_webgpu("/?mode=cloud")
    stream = page.evaluate(
        f"""async () => {{ const H = await {HYBRID}; const stop = new AbortController(); const got = [];
             try {{
               for await (const c of H.api.stream({QUESTION}, {{signal: stop.signal}}))
                 if (got.push(c.delta) === 3) stop.abort();
             }} catch (e) {{ return {{name: e.name, code: e.code, text: e.text, got, usage: e.usage}}; }} }}"""
    )
    assert (stream["name"], stream["code"]) == ("Aborted", "aborted")
    assert len(stream["got"]) == 3
    assert stream["text"].startswith("".join(stream["got"]))
    call = page.evaluate(
        f"""async () => {{ const H = await {HYBRID}; const stop = new AbortController(); setTimeout(() => stop.abort(), 500);
             return H.api.complete({QUESTION}, {{signal: stop.signal}}).catch((e) => ({{name: e.name, code: e.code}})); }}"""
    )
    assert call == {"name": "Aborted", "code": "aborted"}
    assert page.evaluate(f"{HYBRID}.then((H) => H.api.getStatus()).then((s) => s.active)") == 0
