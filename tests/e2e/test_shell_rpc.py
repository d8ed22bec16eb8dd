"""Calls from scripts into Python and back: promises, streams, stops, errors, a caller's own cloud client, events, modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from shell_testing import say, sent, shell_page, wait_sent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HYBRID = "ModuleLoader.getModule('HybridLLMProvider')"
CATCH = "(e) => ({isError: e instanceof Error, name: e.name, message: e.message, code: e.code, text: e.text, usage: e.usage})"


def start(page: Page, expression: str) -> str:
    """Begin a promise in the page without waiting for it; returns the id of the call that Python was asked."""
    before = len(sent(page, "rpc"))
    page.evaluate(
        f"() => {{ window.outcome = null; ({expression}).then((v) => (outcome = v), (e) => (outcome = ({CATCH})(e))); }}"
    )
    return str(wait_sent(page, "rpc", before + 1)[-1]["id"])


def outcome(page: Page) -> Any:
    """Return what the begun promise came to."""
    return until(lambda: page.evaluate("outcome"), timeout=10, what="outcome", every=0.02)


def chunk(call: str, delta: str, *, done: bool = False, **more: Any) -> dict[str, Any]:
    """Return an `rpc-chunk` from the local provider."""
    piece = {"delta": delta, "done": done, "provider": "local", "segment": 0, **more}
    return {"kind": "rpc-chunk", "id": call, "chunk": piece}


class TestCalls:
    """What answers once."""

    def test_the_request_and_its_answer(self, page: Page) -> None:
        """`complete` carries messages and options with a requestId, and resolves to what Python answers."""
        call = start(page, f"{HYBRID}.then((H) => H.api.complete([{{role: 'user', content: 'hi'}}], {{temperature: 0}}))")
        request = sent(page, "rpc")[-1]
        assert (request["module"], request["method"]) == ("HybridLLMProvider", "complete")
        assert request["args"][0] == [{"role": "user", "content": "hi"}]
        assert request["args"][1]["temperature"] == 0
        assert request["args"][1]["requestId"]
        say(page, {"kind": "rpc-result", "id": call, "value": {"text": "hello", "provider": "local"}})
        assert outcome(page) == {"text": "hello", "provider": "local"}

    @pytest.mark.parametrize(
        "method",
        [
            *["setMode", "getMode", "isLocalAvailable", "abort", "getStatus", "getAutoSwitchConfig", "getUsageStats", "report"],
            *["getRecovery", "setRecovery", "savePersona", "listPersonas", "setPersona", "deletePersona", "tools", "callTool"],
            *["estimate", "getBudget", "setBudget", "setRateLimits"],
        ],
    )
    def test_plain_methods_pass_their_arguments(self, page: Page, method: str) -> None:
        """Each method of the interface asks Python under its own name."""
        call = start(page, f"{HYBRID}.then((H) => H.api.{method}('x'))")
        assert sent(page, "rpc")[-1]["args"] == ["x"]
        assert sent(page, "rpc")[-1]["method"] == method
        say(page, {"kind": "rpc-result", "id": call, "value": 7})
        assert outcome(page) == 7

    def test_errors_are_errors(self, page: Page) -> None:
        """A refusal arrives as an Error with name, message and code, and what else it carries."""
        call = start(page, f"{HYBRID}.then((H) => H.api.complete([]))")
        error = {"name": "MessageError", "message": "`messages` is empty: give at least one.", "code": "invalid_messages"}
        say(page, {"kind": "rpc-error", "id": call, "error": {**error, "text": "so far", "__proto__x": 1}})
        assert outcome(page) == {"isError": True, **error, "text": "so far", "usage": None}

    def test_hostile_error_fields_change_nothing(self, page: Page) -> None:
        """Fields named like an Error's own machinery are not copied."""
        call = start(page, f"{HYBRID}.then((H) => H.api.getMode())")
        wire = '{"name": "E", "message": "m", "code": null, "stack": "x", "toString": 1, "__proto__": {"polluted": 1}}'
        page.evaluate("([id, wire]) => window.python.say({kind: 'rpc-error', id, error: JSON.parse(wire)})", [call, wire])
        assert outcome(page)["name"] == "E"
        assert page.evaluate("({}).polluted") is None

    def test_answers_do_not_mix(self, page: Page) -> None:
        """Two calls under way each get their own answer, in whatever order these come."""
        page.evaluate(f"{HYBRID}.then((H) => {{ window.both = Promise.all([H.api.getMode(), H.api.getStatus()]); }})")
        first, second = (call["id"] for call in wait_sent(page, "rpc", 2))
        say(page, {"kind": "rpc-result", "id": second, "value": "second"}, {"kind": "rpc-result", "id": first, "value": "first"})
        assert page.evaluate("both") == ["first", "second"]

    def test_what_is_not_json_is_refused_here(self, page: Page) -> None:
        """A cyclic message is the caller's mistake and says so; Python is not asked."""
        error = page.evaluate(
            f"""async () => {{ const H = await {HYBRID}; const cyclic = {{role: 'user'}}; cyclic.content = cyclic;
                 return H.api.complete([cyclic]).catch({CATCH}); }}"""
        )
        assert error["code"] == "invalid_request"
        assert sent(page, "rpc") == []

    def test_a_dead_python_fails_what_waits(self, page: Page) -> None:
        """`fatal` rejects calls under way and later ones with the reason, and shows it with the way out."""
        start(page, f"{HYBRID}.then((H) => H.api.getStatus())")
        say(
            page,
            {
                "kind": "fatal",
                "error": {"name": "BootFailed", "message": "Out of memory.", "code": "oom", "remedy": "Close tabs."},
            },
        )
        assert outcome(page)["code"] == "oom"
        dialog = page.get_by_role("dialog")
        assert "Out of memory." in dialog.inner_text()
        assert "Close tabs." in dialog.inner_text()
        assert dialog.get_by_role("button", name="Reload").is_visible()


class TestStream:
    """What answers in pieces."""

    LOOP = """(async () => { const H = await %s; window.got = [];
        for await (const c of H.api.stream([{role: 'user', content: 'x'}], %s)) { got.push(c); %s }
        return {text: got.map((c) => c.delta).join(''), texts: got.map((c) => c.text)}; })()"""

    def test_text_accumulates_here(self, page: Page) -> None:
        """Each chunk's `text` is all of the deltas so far; the last chunk keeps its usage."""
        call = start(page, self.LOOP % (HYBRID, "{}", ""))
        say(page, chunk(call, "He"), chunk(call, "llo"), chunk(call, "", done=True, usage={"totalTokens": 3}, text="other"))
        say(page, {"kind": "rpc-result", "id": call, "value": None})
        assert outcome(page)["texts"] == ["He", "Hello", "Hello"]
        assert page.evaluate("got.at(-1).usage") == {"totalTokens": 3}
        assert page.evaluate("got.map((c) => c.done)") == [False, False, True]

    def test_a_restart_begins_the_text_anew(self, page: Page) -> None:
        """A chunk marked so drops what was accumulated: its own delta is all the text there is."""
        call = start(page, self.LOOP % (HYBRID, "{}", ""))
        say(page, chunk(call, "He"), chunk(call, "Wor", restart=True, segment=1), chunk(call, "ld", done=True, segment=1))
        say(page, {"kind": "rpc-result", "id": call, "value": None})
        assert outcome(page)["texts"] == ["He", "Wor", "World"]

    def test_resume_is_a_stream(self, page: Page) -> None:
        """It carries messages, the shown text, options with a requestId, and the side, `local` where none is said."""
        page.evaluate(f"{HYBRID}.then((H) => {{ window.r = H.api.resume([], 'shown', {{seed: 1}}).next(); }})")
        request = wait_sent(page, "rpc")[0]
        assert (request["method"], request["args"][1], request["args"][3]) == ("resume", "shown", "local")
        assert request["args"][2]["seed"] == 1
        assert request["args"][2]["requestId"]
        say(page, chunk(request["id"], "shown"))
        assert page.evaluate("r.then((r) => r.value.text)") == "shown"

    def test_nothing_is_asked_before_the_first_next(self, page: Page) -> None:
        """As with any generator, making the stream costs nothing; it may also be awaited."""
        page.evaluate(f"{HYBRID}.then(async (H) => {{ window.made = await H.api.stream([]); }})")
        until(lambda: page.evaluate("Boolean(window.made)"), timeout=5, what="made")
        assert sent(page, "rpc") == []
        assert page.evaluate("made.return().then((r) => r.done)") is True
        assert page.evaluate("made.next().then((r) => r.done)") is True
        assert sent(page, "rpc") == []

    def test_an_error_ends_it_once(self, page: Page) -> None:
        """Chunks that came before the error are handed out first, then the error is thrown, then the iterator is over."""
        page.evaluate(f"{HYBRID}.then((H) => {{ window.s = H.api.stream([]); }})")
        page.evaluate("() => { window.all = Promise.allSettled([s.next(), s.next()]); }")
        call = wait_sent(page, "rpc")[0]["id"]
        say(
            page,
            chunk(call, "a"),
            {"kind": "rpc-error", "id": call, "error": {"name": "EngineDied", "message": "gone", "code": "engine_died"}},
        )
        assert page.evaluate("all.then(([a, b]) => [a.value?.value?.delta, b.reason?.code])") == ["a", "engine_died"]
        assert page.evaluate("s.next()") == {"done": True, "value": None}

    def test_leaving_the_loop_cancels(self, page: Page) -> None:
        """`break` sends one cancel for the call."""
        call = start(page, self.LOOP % (HYBRID, "{}", "break;"))
        say(page, chunk(call, "a"), chunk(call, "b"))
        assert outcome(page)["texts"] == ["a"]
        assert [m["id"] for m in sent(page, "rpc-cancel")] == [call]

    def test_finishing_does_not_cancel(self, page: Page) -> None:
        """A stream read to its end leaves nothing to cancel."""
        call = start(page, self.LOOP % (HYBRID, "{}", ""))
        say(page, chunk(call, "a", done=True), {"kind": "rpc-result", "id": call, "value": None})
        outcome(page)
        assert sent(page, "rpc-cancel") == []


class TestAbort:
    """AbortSignals, for calls and streams."""

    def test_aborted_before_it_began(self, page: Page) -> None:
        """A signal that has expired already is the caller's mistake, by its field; nothing is asked of Python."""
        for asked in ("complete([], {signal: AbortSignal.abort()})", "stream([], {signal: AbortSignal.abort()}).next()"):
            error = page.evaluate(f"{HYBRID}.then((H) => H.api.{asked}).catch({CATCH})")
            assert (error["name"], error["code"]) == ("OptionError", "invalid_option")
            assert "options.signal has expired" in error["message"]
        assert sent(page, "rpc") == []

    def test_aborted_between_the_call_and_the_first_piece(self, page: Page) -> None:
        """A stream that nobody has begun to read is stopped before it begins."""
        asked = (
            "const stop = new AbortController(), all = H.api.stream([], {signal: stop.signal}); stop.abort(); return all.next();"
        )
        error = page.evaluate(f"{HYBRID}.then((H) => {{ {asked} }}).catch({CATCH})")
        assert (error["name"], error["code"]) == ("Aborted", "aborted")
        assert sent(page, "rpc") == []

    def test_a_call_is_stopped_and_python_has_the_last_word(self, page: Page) -> None:
        """The abort sends one cancel; Python's `Aborted`, with text and usage, is what the caller gets."""
        page.evaluate("window.stop = new AbortController()")
        call = start(page, f"{HYBRID}.then((H) => H.api.complete([], {{signal: stop.signal}}))")
        page.evaluate("stop.abort()")
        assert [m["id"] for m in sent(page, "rpc-cancel")] == [call]
        wire = {"name": "Aborted", "message": "stopped", "code": "aborted", "text": "so far", "usage": {"totalTokens": 2}}
        say(page, {"kind": "rpc-error", "id": call, "error": wire})
        assert outcome(page)["text"] == "so far"
        assert outcome(page)["usage"] == {"totalTokens": 2}

    def test_a_stop_never_hangs(self, page: Page) -> None:
        """If Python does not answer the cancel, the call is rejected all the same, and a late answer is ignored."""
        page.evaluate("window.stop = new AbortController()")
        call = start(page, f"{HYBRID}.then((H) => H.api.complete([], {{signal: stop.signal}}))")
        page.evaluate("stop.abort()")
        assert outcome(page)["name"] == "Aborted"
        say(page, {"kind": "rpc-result", "id": call, "value": "late"})

    def test_a_result_that_crosses_the_stop_is_still_a_stop(self, page: Page) -> None:
        """Python answered just before it read the cancel: the caller asked to stop, so it is stopped."""
        page.evaluate("window.stop = new AbortController()")
        call = start(page, f"{HYBRID}.then((H) => H.api.complete([], {{signal: stop.signal}}))")
        page.evaluate("stop.abort()")
        say(page, {"kind": "rpc-result", "id": call, "value": "crossed"})
        assert outcome(page)["name"] == "Aborted"

    def test_no_chunk_follows_a_stop(self, page: Page) -> None:
        """Chunks that were under way, or still queued, are dropped; the stream ends with `Aborted`."""
        page.evaluate("window.stop = new AbortController()")
        call = start(page, TestStream.LOOP % (HYBRID, "{signal: stop.signal}", "if (got.length === 1) stop.abort();"))
        say(page, chunk(call, "a"), chunk(call, "b"), chunk(call, "c"))
        say(
            page,
            {"kind": "rpc-error", "id": call, "error": {"name": "Aborted", "message": "stopped", "code": "aborted", "text": "a"}},
        )
        assert outcome(page)["name"] == "Aborted"
        assert page.evaluate("got.map((c) => c.delta)") == ["a"]
        assert len(sent(page, "rpc-cancel")) == 1

    def test_the_signal_stays_here(self, page: Page) -> None:
        """A signal does not cross to Python, and one that is none is refused by name."""
        start(page, f"{HYBRID}.then((H) => H.api.complete([], {{signal: new AbortController().signal, requestId: 'mine'}}))")
        assert sent(page, "rpc")[-1]["args"][1] == {"requestId": "mine"}
        error = page.evaluate(f"{HYBRID}.then((H) => H.api.complete([], {{signal: 1}})).catch({CATCH})")
        assert "signal" in error["message"]


class TestCloudClient:
    """`Hybrid.init(cloudClient)`."""

    def init(self, page: Page, client: str) -> Any:
        """Call init with `client`, answer it, and return what Python was told."""
        call = start(page, f"{HYBRID}.then((H) => H.init({client}))")
        told = sent(page, "rpc")[-1]
        say(page, {"kind": "rpc-result", "id": call, "value": True})
        assert outcome(page) is True
        return told["args"]

    def ask(self, page: Page) -> dict[str, Any]:
        """Play Python's question and return the shell's answer."""
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        say(page, {"kind": "cloud-call", "id": "c1", "messages": messages, "options": {"temperature": 0}})
        answer: list[dict[str, Any]] = until(
            lambda: sent(page, "cloud-result") + sent(page, "cloud-error"), timeout=5, what="cloud answer", every=0.02
        )
        return answer[0]

    @pytest.mark.parametrize("client", ["", "null", "undefined", "cloudClient"])
    def test_the_gateway_by_default(self, page: Page, client: str) -> None:
        """No client, or the page's own `cloudClient`, means the gateway."""
        assert self.init(page, client) == [None]

    @pytest.mark.parametrize(
        "client",
        [
            "{complete: async (m, o) => ({text: m.at(-1).content + o.temperature, usage: {totalTokens: 1}})}",
            "{api: {complete: (m, o) => m.at(-1).content + o.temperature}}",
        ],
    )
    def test_a_client_of_ones_own(self, page: Page, client: str) -> None:
        """It is called with messages and options, whether it answers with text or a result."""
        assert self.init(page, client) == [{"kind": "caller"}]
        assert self.ask(page)["value"]["text"] == "a0"

    def test_the_blueprints_client_speaks_gemini(self, page: Page) -> None:
        """`callApiWithRetry` gets Gemini's history: system as user, assistant as model."""
        client = (
            "{callApiWithRetry: async (h, key, functions, o) => ({type: 'text', content: JSON.stringify([h, o.temperature])})}"
        )
        self.init(page, client)
        text = self.ask(page)["value"]["text"]
        assert '{"role":"user","parts":[{"text":"s"}]}' in text
        assert '{"role":"model","parts":[{"text":"a"}]}' in text

    def test_its_failure_is_an_error(self, page: Page) -> None:
        """What the client throws crosses with name, message and code; an answer without text is a failure too."""
        self.init(page, "{complete: async () => { throw Object.assign(new TypeError('no key'), {code: 'AUTH_FAILED'}); }}")
        assert self.ask(page)["error"] == {"name": "TypeError", "message": "no key", "code": "AUTH_FAILED"}
        page.evaluate("window.python.sent.length = 0")
        self.init(page, "{complete: async () => ({})}")
        assert self.ask(page)["error"]["code"] == "bad_answer"

    def test_an_abort_reaches_it(self, page: Page) -> None:
        """`cloud-abort` aborts the signal that the client was given, and nothing is answered."""
        waits = "new Promise((_, no) => o.signal.addEventListener('abort', () => { window.seen = 1; no(o.signal.reason); }))"
        self.init(page, f"{{complete: (m, o) => {waits}}}")
        say(page, {"kind": "cloud-call", "id": "c1", "messages": [], "options": {}}, {"kind": "cloud-abort", "id": "c1"})
        until(lambda: page.evaluate("window.seen"), timeout=5, what="abort seen")
        assert sent(page, "cloud-error") + sent(page, "cloud-result") == []

    @pytest.mark.parametrize("client", ["{}", "42", "'key'", "{complete: 1}"])
    def test_what_is_no_client_is_refused(self, page: Page, client: str) -> None:
        """The error names the argument and what it must have; the client set before stays."""
        self.init(page, "{complete: async () => 'kept'}")
        error = page.evaluate(f"{HYBRID}.then((H) => H.init({client})).catch({CATCH})")
        assert "complete(messages, options)" in error["message"]
        assert self.ask(page)["value"]["text"] == "kept"


class TestEvents:
    """The EventBus and its window twin."""

    def test_order_and_a_failing_listener(self, page: Page, origin: str) -> None:
        """Handlers run in order; one that throws is reported and the rest still run, `window` last."""
        page.evaluate(
            """() => { window.seen = []; window.addEventListener('error', (e) => { seen.push('reported'); e.preventDefault(); });
                 EventBus.on('x', () => { seen.push('first'); throw new Error('mine'); });
                 EventBus.on('x', (d) => seen.push(d.n));
                 window.addEventListener('x', (e) => seen.push('window ' + e.detail.n)); }"""
        )
        say(page, {"kind": "event", "name": "x", "detail": {"n": 5}})
        assert page.evaluate("seen") == ["first", "reported", 5, "window 5"]

    def test_off(self, page: Page) -> None:
        """A handler taken off, by `off` or by what `on` returned, is not called; not even by the event under way."""
        page.evaluate(
            """() => { window.seen = []; const late = () => seen.push('late');
                 const gone = EventBus.on('x', () => seen.push('gone')); gone();
                 EventBus.on('x', () => EventBus.off('x', late)); EventBus.on('x', late); }"""
        )
        say(page, {"kind": "event", "name": "x", "detail": {}}, {"kind": "event", "name": "nobody", "detail": {}})
        assert page.evaluate("seen") == []

    def test_a_handler_must_be_a_function(self, page: Page) -> None:
        """Anything else is refused at once."""
        assert "needs a function" in page.evaluate("(() => { try { EventBus.on('x', 1); } catch (e) { return e.message; } })()")


class TestModules:
    """ModuleLoader."""

    def test_it_waits_for_the_core(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """A module asked for before the core is up arrives when it is."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            page.evaluate(
                "() => { window.got = null; ModuleLoader.getModule('LocalLLM').then((m) => (got = Object.keys(m.api).sort())); }"
            )
            page.evaluate("new Promise((done) => setTimeout(done, 50))")
            assert page.evaluate("got") is None
            say(page, {"kind": "ready", "stage": "core"})
            contract = ["getAvailableModels", "getRuntimeInfo", "getStatus", "init", "isReady", "switchModel", "unload"]
            names = sorted([*contract, "cancelLoad", "delete", "setRuntime"])
            assert until(lambda: page.evaluate("got"), timeout=5, what="module") == names

    def test_unknown_names_are_refused_with_the_known(self, page: Page) -> None:
        """The error lists what there is."""
        error = page.evaluate(f"ModuleLoader.getModule('Nope').catch({CATCH})")
        assert error["code"] == "unknown_module"
        for name in ("HybridLLMProvider", "LocalLLM", "ApiClient", "EventBus"):
            assert name in error["message"]

    def test_a_core_that_cannot_start_rejects(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """When the Python worker's script does not load, modules reject and the page names the remedy."""
        with shell_page(chromium_without_webgpu, origin, core=False) as (page, _):
            page.evaluate("window.python.fail('')")
            assert page.evaluate(f"ModuleLoader.getModule('LocalLLM').catch({CATCH})")["code"] == "python_worker"
            assert "HYBR server" in page.get_by_role("dialog").inner_text()


class TestWorkers:
    """Starting and restarting."""

    def test_both_start_as_modules_with_their_ends_of_one_channel(self, page: Page) -> None:
        """Each worker's URL says what it is; `boot` carries a port to both, and the engine's lock to both."""
        workers = page.evaluate("__workers.map((w) => [new URL(w.url).pathname, w.options.type])")
        assert workers == [["/assets/test/js/python.worker.js", "module"], ["/assets/test/js/engine/engine.worker.js", "module"]]
        boots = page.evaluate("[python, engine].map((w) => w.sent[0])")
        assert [boot["kind"] for boot in boots] == ["boot", "boot"]
        assert [boot["transferred"] for boot in boots] == [1, 1]
        assert boots[0]["lock"] == boots[1]["lock"]
        assert boots[0]["config"]["assets"] == "/assets/test"

    def test_a_dead_python_is_noticed(self, page: Page) -> None:
        """Once Python said that it holds its lock, the lock's release is its death: the page says so and how to go on."""
        page.evaluate(
            """() => new Promise((held) => navigator.locks.request(python.sent[0].life, () => new Promise((free) => {
                 window.die = free; held(); })))"""
        )
        say(page, {"kind": "alive"})
        start(page, f"{HYBRID}.then((H) => H.api.getStatus())")
        assert page.get_by_role("dialog").count() == 0
        page.evaluate("() => window.die()")
        assert outcome(page)["code"] == "python_died"
        assert "Reload" in page.get_by_role("dialog").inner_text()

    def test_a_restart_makes_a_new_engine_channel_and_lock(self, page: Page) -> None:
        """`engine restart` ends the old worker and tells Python where the new one is."""
        page.evaluate("window.old = engine")
        say(page, {"kind": "engine", "op": "restart"})
        assert page.evaluate("[old.alive, engine.alive, __workers.length]") == [False, True, 3]
        told = sent(page, "engine-port")[0]
        assert told["transferred"] == 1
        assert told["lock"] == page.evaluate("engine.sent[0].lock") != page.evaluate("old.sent[0].lock")

    def test_messages_may_come_as_json(self, page: Page) -> None:
        """`host.post(json)` arrives as text and is read all the same; a kind nobody knows harms nothing."""
        page.evaluate("window.python.say(JSON.stringify({kind: 'view', op: {type: 'toast', toast: 'info', text: 'hello'}}))")
        assert page.get_by_test_id("toast").inner_text() == "hello"
        say(page, {"kind": "from-the-future"})

    def test_query_preflight_and_stored_values_reach_python(self, chromium_without_webgpu: Browser, origin: str) -> None:
        """What the address bar asks, what was stored and what the preflight found are Python's to use."""
        with shell_page(chromium_without_webgpu, origin) as (page, _):
            say(page, {"kind": "store", "key": "mode", "value": "local"}, {"kind": "store", "key": "gone", "value": 1})
            say(page, {"kind": "store", "key": "gone", "value": None})
            page.evaluate("localStorage.setItem('hybr:broken', '{'); localStorage.setItem('other', '1')")
            page.goto(f"{origin}/?mode=cloud&model=tiny&load=1")
            config = wait_sent(page, "boot")[0]["config"]
            assert config["query"] == {"mode": "cloud", "model": "tiny", "load": "1"}
            assert config["stored"] == {"mode": "local"}
            result = wait_sent(page, "preflight")[0]["result"]
            assert result["webgpu"] == "no"
            assert result["reason"]
