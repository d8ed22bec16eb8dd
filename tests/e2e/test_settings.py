"""The settings in the real page: how answers are made, personas, keys, money, looks, the doctor. One server, one page."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import RECORDER, Served, Watch, attribute, serve, until, wait_core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

KEY = "sk-toy-0123456789"
SECRET = "My bicycle is called Rosinante"


class Toy(BaseHTTPRequestHandler):
    """A provider that speaks OpenAI's chat completions, to whoever has the key; it remembers what it was asked."""

    asked: list[dict[str, Any]]

    def do_GET(self) -> None:
        """List the models."""
        self._answer(200, {"object": "list", "data": [{"id": "toy-1", "object": "model", "created": 1, "owned_by": "toy"}]})

    def do_POST(self) -> None:
        """Answer with one word."""
        self.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        shape = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "toy-1"}
        said = {**shape, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": None}]}
        done = {**shape, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        spent = {**shape, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}
        body = "".join(f"data: {json.dumps(one)}\n\n" for one in (said, done, spent)) + "data: [DONE]\n\n"
        self._answer(200, body, "text/event-stream")

    def _answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        if self.headers.get("authorization") != f"Bearer {KEY}":
            status, body, kind = 401, {"error": {"message": "wrong key", "code": "invalid_api_key"}}, "application/json"
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Keep quiet."""


@pytest.fixture(scope="module")
def toy() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The provider's address and what it was asked."""
    handler = type("Bound", (Toy,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def house(toy: tuple[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with that provider beside its own model."""
    folder = tmp_path_factory.mktemp("house")
    upstreams = folder / "upstreams.toml"
    upstreams.write_text(f'[upstreams.toy]\nbase_url = "{toy[0]}"\nmodels = ["toy-1"]\nretries = 0\n')
    with serve(folder / "data", log=folder / "serve.log", env={"HYBR_UPSTREAMS": str(upstreams)}) as running:
        yield running


@pytest.fixture(scope="module")
def page(house: Served, chromium_without_webgpu: Browser) -> Iterator[Page]:
    """A page with Panel's views, shared: a test leaves the settings as it found them. It asks its own server alone."""
    context = chromium_without_webgpu.new_context(locale="en-GB")
    context.add_init_script(RECORDER)
    watch = Watch(house.url, expected=["400 (Bad Request)"])  # a key that is refused
    watch.attach(context)
    page = context.new_page()
    page.goto(house.url)
    wait_core(page)
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")
    yield page
    assert page.evaluate("window.__violations") == []
    context.close()
    watch.check()


def opened(page: Page, test_id: str) -> Locator:
    """A section of the panel, opened if it was closed."""
    section = page.get_by_test_id(test_id)
    if section.get_attribute("open") is None:
        section.locator("summary").first.click()
    return section


def shows(place: Locator, text: str, *, timeout: float = 60) -> None:
    """Wait until it says so."""
    until(lambda: text in place.inner_text(), timeout=timeout, what=f"{text!r} shown")


def give(control: Locator, text: str) -> None:
    """Write into a control and leave it."""
    control.fill(text)
    control.blur()


def asks(page: Page, text: str) -> None:
    """Send a message and wait for its answer."""
    replies = page.locator("[data-testid=message][data-role=assistant]")
    before = replies.count()
    page.get_by_test_id("composer").fill(text)
    page.get_by_test_id("composer").press("Enter")
    until(
        lambda: replies.count() > before and replies.last.get_attribute("data-state") == "done",
        timeout=240,
        what="an answer",
    )


def test_a_key_is_tried_kept_and_never_shown_again(page: Page, toy: tuple[str, list[dict[str, Any]]]) -> None:
    """What is no key and what the provider refuses are told at the field; the right one is kept, and nowhere in the page."""
    opened(page, "settings")
    entry = page.locator("[data-testid=keys] [data-provider=toy]")
    until(lambda: entry.count() == 1, timeout=60, what="the provider's key")
    entry.locator("summary").click()
    field = entry.locator("input")
    assert field.get_attribute("type") == "password"
    field.fill("two words")
    entry.get_by_role("button", name="Save and try").click()
    shows(entry, "one line")
    field.fill("sk-wrong")
    entry.get_by_role("button", name="Save and try").click()
    shows(entry, "refuses this key")
    field.fill(KEY)
    entry.get_by_role("button", name="Save and try").click()
    shows(entry, "The provider takes it")
    until(lambda: entry.get_attribute("data-source") == "person", timeout=30, what="a key of the person's")
    until(lambda: field.input_value() == "", timeout=10, what="an empty field")
    assert KEY not in page.content()
    assert KEY not in page.evaluate("JSON.stringify({...localStorage})")


def test_settings_are_refused_in_place_and_go_with_the_request(page: Page, toy: tuple[str, list[dict[str, Any]]]) -> None:
    """A wrong value is told where it stands and not kept; right ones are asked of the provider; a new chat has none of them."""
    page.get_by_test_id("new-conversation").click()
    box = opened(page, "generation")
    temperature = box.locator("[data-setting=temperature]")
    give(temperature, "3")
    until(lambda: temperature.get_attribute("aria-invalid") == "true", timeout=30, what="the complaint")
    shows(box, "temperature is 3")
    give(box.locator("[data-setting=response_format]"), "{nonsense")
    shows(box, "This is no JSON")
    give(box.locator("[data-setting=response_format]"), "")
    give(temperature, "0.5")
    until(lambda: temperature.get_attribute("aria-invalid") is None, timeout=30, what="no complaint")
    give(box.locator("[data-setting=max_output_tokens]"), "7")
    give(box.locator("[data-setting=stop]"), "END\nSTOP")
    give(box.locator("[data-setting=seed]"), "11")
    give(box.locator("[data-setting=system]"), "Answer in one word.")
    until(lambda: box.get_attribute("data-changed") == "5", timeout=30, what="five settings")
    page.evaluate("ModuleLoader.getModule('HybridLLMProvider').then((H) => H.api.savePersona('toy', {model: 'toy/toy-1'}))")
    until(lambda: page.locator("[data-testid=persona] option[value=toy]").count() == 1, timeout=30, what="the persona")
    page.get_by_test_id("persona").select_option("toy")
    asks(page, SECRET)
    asked = toy[1][-1]
    assert (asked["temperature"], asked["seed"], asked["stop"]) == (0.5, 11, ["END", "STOP"])
    assert asked.get("max_tokens", asked.get("max_completion_tokens")) == 7
    assert asked["messages"][0] == {"role": "system", "content": "Answer in one word."}

    box.get_by_test_id("preset-name").fill("one word")
    box.get_by_test_id("save-preset").click()
    shows(box, "Saved")
    page.get_by_test_id("new-conversation").click()
    until(lambda: box.get_attribute("data-changed") == "0", timeout=30, what="a new chat without settings")
    until(lambda: temperature.input_value() == "", timeout=10, what="an empty control")
    box.get_by_test_id("preset").select_option("one word")
    until(lambda: box.get_attribute("data-changed") == "5", timeout=30, what="the preset's settings")
    until(lambda: temperature.input_value() == "0.5", timeout=30, what="in their controls")
    box.get_by_test_id("reset-settings").click()
    until(lambda: box.get_attribute("data-changed") == "0", timeout=30, what="none again")
    box.get_by_test_id("delete-preset").click()
    until(lambda: box.locator("[data-testid=preset] option").count() == 1, timeout=30, what="no preset")


def test_a_persona_is_made_refused_used_changed_and_deleted(page: Page, toy: tuple[str, list[dict[str, Any]]]) -> None:
    """A wrong one is told at its field; a right one speaks first in the requests of this conversation, and of no other."""
    page.get_by_test_id("new-conversation").click()
    page.get_by_test_id("new-persona").click()
    form = page.get_by_test_id("persona-form")
    form.locator("[name=system]").fill("You are a pirate.")
    form.locator("[name=model]").fill("toy/toy-1")
    form.locator("[name=temperature]").fill("9")
    form.get_by_test_id("save-persona").click()
    shows(form, "1 to 80 characters")
    form.locator("[name=name]").fill("Pirate")
    form.get_by_test_id("save-persona").click()
    shows(form, "temperature is 9")
    wrong = form.locator("[name=temperature]")
    until(lambda: wrong.get_attribute("aria-invalid") == "true", timeout=10, what="the field marked")
    form.locator("[name=temperature]").fill("1.1")
    form.get_by_test_id("save-persona").click()
    until(lambda: attribute(page, "persona", "data-chosen") == "Pirate", timeout=30, what="the persona chosen")
    asks(page, "Who are you?")
    assert toy[1][-1]["messages"][0] == {"role": "system", "content": "You are a pirate."}
    assert toy[1][-1]["temperature"] == 1.1
    page.get_by_test_id("new-conversation").click()
    until(lambda: not attribute(page, "persona", "data-chosen"), timeout=30, what="none in a new chat")
    page.get_by_test_id("persona").select_option("Pirate")
    page.get_by_test_id("edit-persona").click()
    form.locator("[name=name]").fill("Captain")
    form.get_by_test_id("save-persona").click()
    until(lambda: attribute(page, "persona", "data-chosen") == "Captain", timeout=30, what="renamed")
    page.get_by_test_id("edit-persona").click()
    form.get_by_test_id("delete-persona").click()
    until(lambda: page.locator("[data-testid=persona] option[value=Captain]").count() == 0, timeout=30, what="deleted")


def test_a_spent_budget_is_told_and_stops(page: Page) -> None:
    """Nonsense is refused in place; a budget of nothing is spent at once, and said; without one, all is as before."""
    opened(page, "settings")
    month = page.get_by_test_id("budget-month")
    give(month, "much")
    until(lambda: month.get_attribute("aria-invalid") == "true", timeout=30, what="the complaint")
    give(month, "0")
    spent = page.get_by_test_id("spent-month")
    until(lambda: spent.get_attribute("data-state") == "exceeded", timeout=30, what="the budget spent")
    shows(spent, "paid models are not asked")
    give(month, "")
    until(lambda: spent.get_attribute("data-state") == "within", timeout=30, what="no budget")
    shows(page.get_by_test_id("estimate"), "Server: ")


# The settings with a Python of the test's own: what they send is kept in `sent`, and a state is told when the test tells it.
PLAYED = """async (state) => {
  const { render } = await import(document.querySelector('meta[name=assets]').content + '/js/ui/settings.js');
  const heard = {};
  window.sent = [];
  const on = (name, tell) => (heard[name] = tell);
  const model = { state: JSON.stringify(state), on, send_msg: (message) => window.sent.push(message) };
  const place = document.body.appendChild(document.createElement('div'));
  const view = place.attachShadow({ mode: 'closed' }).appendChild(document.createElement('div'));
  view.append(render({ model, el: view }));
  const control = (name) => view.querySelector(`[data-testid=prefer-${name}]`);
  window.change = (name, to) => {
    const node = control(name);
    if (to === undefined) return node.click();
    node.value = to;
    node.dispatchEvent(new Event('change', { bubbles: true }));
  };
  window.shown = () => [control('hedge').checked, control('trim').checked, control('handover').value];
  window.leave = () => place.remove();
  window.tell = (told) => { model.state = JSON.stringify({ ...state, ...told }); heard.state(); return window.shown(); };
}"""


def test_a_state_older_than_a_change_does_not_draw_it_back(page: Page) -> None:
    """What was changed stays until a state knows of it: then that one counts, also where the change was refused."""
    recovery = {"handover": "continue", "hedge": False, "trim": False}
    period = {"limit": None, "spent": 0, "state": "within"}
    state = {"place": "main", "mode": "local-only", "budget": {"month": period, "session": period}, "recovery": recovery}
    state |= {"whileLoading": "cloud", "loadAtStart": False, "telemetry": False, "mermaid": False, "enter": "send"}
    page.evaluate(PLAYED, {**state, "runtime": "auto", "hosts": [], "heard": 0, "doing": []})

    def tell(heard: int, doing: list[int], **changed: Any) -> Any:
        return page.evaluate("(told) => tell(told)", {"heard": heard, "doing": doing, "recovery": {**recovery, **changed}})

    page.evaluate("change('hedge'); change('trim'); change('handover', 'stop')")
    assert [one["sent"] for one in page.evaluate("sent")] == [1, 2, 3]
    assert tell(1, [], hedge=True) == [True, True, "stop"]
    assert tell(3, [2, 3], hedge=True) == [True, True, "stop"]
    assert tell(3, [2], hedge=True, handover="stop") == [True, True, "stop"]
    page.evaluate("change('trim')")  # and once more, before the first was done
    assert tell(3, [], hedge=True, handover="stop", trim=True) == [True, False, "stop"]
    assert tell(4, [], handover="restart", trim=True) == [False, True, "restart"]  # another tab's word, and a refusal
    page.evaluate("leave()")


def test_preferences_outlive_a_reload(page: Page) -> None:
    """Each switch is what it was set to after a reload, and the composer's hint follows the Enter setting."""
    opened(page, "settings")
    page.get_by_test_id("prefer-while-loading").select_option("wait")
    page.get_by_test_id("prefer-handover").select_option("stop")
    for name in ("hedge", "telemetry"):
        page.get_by_test_id(f"prefer-{name}").check()
    page.get_by_test_id("prefer-density").select_option("compact")
    until(lambda: page.evaluate("document.documentElement.dataset.density") == "compact", timeout=10, what="dense")
    stored = "JSON.parse(localStorage.getItem('hybr:preferences') ?? '{}')"
    until(lambda: page.evaluate(f"{stored}.telemetry"), timeout=30, what="the preferences stored")
    page.reload()
    wait_core(page)
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")
    opened(page, "settings")
    until(lambda: page.get_by_test_id("prefer-telemetry").is_checked(), timeout=30, what="telemetry on")
    for name, value in (("while-loading", "wait"), ("handover", "stop")):
        control = page.get_by_test_id(f"prefer-{name}")
        until(lambda control=control, value=value: control.input_value() == value, timeout=30, what=f"{name} as it was set")  # type: ignore[misc]
    until(page.get_by_test_id("prefer-hedge").is_checked, timeout=30, what="the hedge on")
    assert page.evaluate("document.documentElement.dataset.density") == "compact"
    page.get_by_test_id("prefer-while-loading").select_option("cloud")
    page.get_by_test_id("prefer-handover").select_option("continue")
    for name in ("hedge", "telemetry"):
        page.get_by_test_id(f"prefer-{name}").uncheck()
    page.get_by_test_id("prefer-density").select_option("comfortable")
    until(lambda: not page.evaluate(f"{stored}.telemetry"), timeout=30, what="the preferences put back")


def test_the_doctor_names_what_is_in_the_way_and_reports_nothing_private(page: Page) -> None:
    """Without WebGPU it says so with the remedy; the copied report has the figures and no word of a conversation."""
    asks(page, SECRET)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page, "settings").get_by_test_id("settings-doctor").click()
    box = page.get_by_test_id("doctor")
    until(lambda: box.get_attribute("open") is not None, timeout=10, what="the doctor, from the settings")
    assert page.get_by_test_id("open-doctor").is_visible()
    webgpu = box.locator("[data-check=webgpu]")
    until(lambda: webgpu.get_attribute("data-level") == "bad", timeout=60, what="WebGPU in the way")
    shows(webgpu, "WebGPU")
    until(lambda: box.locator("[data-check=server]").get_attribute("data-level") == "good", timeout=30, what="a good server")
    box.get_by_test_id("copy-diagnostics").click()
    shows(box.get_by_test_id("doctor-result"), "Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    report = json.loads(text)
    assert report["checks"]["webgpu"] == "bad"
    assert "Chrome" in report["browser"]["userAgent"]
    for word in ("Rosinante", KEY, "pirate"):
        assert word not in text


def test_the_language_is_changed_and_back(page: Page) -> None:
    """German comes with the page anew, every heading of the settings in it; English again afterwards."""
    opened(page, "settings")
    page.get_by_test_id("prefer-language").select_option("de")
    until(lambda: page.locator("html").get_attribute("lang") == "de", timeout=60, what="the page in German")
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")
    shows(opened(page, "settings"), "Budget")
    headings = page.locator("[data-testid=settings] h3").all_inner_texts()
    assert {"Aussehen", "Verhalten"} <= set(headings)
    shows(page.get_by_test_id("spent-month"), "$ ausgegeben")
    hot = opened(page, "generation").locator("[data-setting=temperature]")
    give(hot, "9")
    shows(page.get_by_test_id("generation"), "eine Zahl von 0 bis 2")
    give(hot, "")
    page.get_by_test_id("prefer-language").select_option("en")
    until(lambda: page.locator("html").get_attribute("lang") == "en", timeout=60, what="the page in English")
    wait_core(page)
    until(lambda: attribute(page, "mode", "data-mode"), timeout=120, what="Panel's mode control")


def test_what_the_server_keeps_is_deleted_after_a_second_question(page: Page) -> None:
    """The first press asks; the second deletes, and the key is gone. Without accounts there is nothing to log out of."""
    opened(page, "settings")
    entry = page.locator("[data-testid=keys] [data-provider=toy]")
    until(lambda: entry.get_attribute("data-source") == "person", timeout=60, what="the key")
    assert not page.get_by_test_id("log-out").is_visible()
    page.get_by_test_id("forget-me").click()
    page.get_by_test_id("forget-me-really").click()
    shows(page.get_by_test_id("settings-result"), "It is deleted")
    until(lambda: entry.get_attribute("data-source") == "none", timeout=60, what="the key gone")
