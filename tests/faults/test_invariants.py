"""The ten invariants of architecture.md, over random schedules of requests, faults, stops, switches and walks-away.

A state machine drives the orchestrator over the fault lab on virtual time. Each question carries its number, and both sides
answer with words that carry it too: so text that strays from one request into another, or a private one that leaves, is seen.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lab.clock import VirtualLoop
from lab.desk import Desk
from lab.engine import Die, Fail, Lost, Silent, Sleep, Stall
from lab.upstream import Cut, Refuse, Unreachable

from hybr.webapp.hybrid.errors import Aborted, CallerError, HybridError
from hybr.webapp.hybrid.patience import PING_AFTER_S, PING_S, TICK_S
from hybr.webapp.hybrid.profile import UNKNOWN
from hybr.webapp.hybrid.types import Usage

if TYPE_CHECKING:
    from hybr.webapp.hybrid.run import Run
    from hybr.webapp.hybrid.types import Chunk, Part

NUMBER = re.compile(r"#(\d+)")
NO_CALL = Fail("ToolCallOutputParseError", "no", "decode")
LOCAL_FAULTS: dict[str, Any] = {
    "none": None,
    "die": Die(),
    "lost": Lost(),
    "stall": Stall(),
    "string rejection": Fail("Error", "DeviceLostError: The WebGPU device was lost", "decode"),
    "garbage": Fail("Error", "failed to sample a valid token", "decode"),
    "context": Fail("ContextWindowSizeExceededError", "too long", "prefill"),
    "overflow": Fail("Error", "number of prompt tokens: 90; context window size: 40", "prefill"),
    "bad format": NO_CALL,
    "caller": Fail("Error", "MessageOrderError: no", "validate"),
    "silent": Silent(),
    "slow": Sleep(3),
    "slower": Sleep(12),
}
CLOUD_FAULTS: dict[str, Any] = {
    "none": None,
    "cut": Cut(),
    "503": Refuse(503),
    "429": Refuse(429, "rate_limited"),
    "401": Refuse(401, "bad_key"),
    "400": Refuse(400, "invalid_value"),
    "unreachable": Unreachable(),
    "garbage": b"data: {oops\n\n",
    "half": b'data: {"choices":[{"delta":{"content":"#',
    "slow": Sleep(3),
}


JSON = {"response_format": {"type": "json_object"}}
HEDGE, TRIM = {"hedge": True}, {"trim": True}
OTHERS: list[dict[str, Any]] = [TRIM, {"handover": "restart"}, {"handover": "stop"}, HEDGE | JSON | TRIM]
MORE: list[dict[str, Any]] = [{}, {}, {}, HEDGE, HEDGE, JSON, *OTHERS]


@dataclass
class Asked:
    """One request and all that its consumer saw."""

    number: int
    private: bool
    streaming: bool
    task: asyncio.Task[None] | None = None
    run: Run | None = None
    text: str = ""
    chunks: int = 0
    ends: list[Any] = field(default_factory=list)
    slow: bool = False
    stopped_at: int | None = None
    walked: bool = False
    trims: bool = False
    prefix: str = ""
    struck: list[str] = field(default_factory=list)

    def take(self, chunk: Chunk) -> None:
        """One chunk of the stream."""
        if chunk.restart:
            self.struck.append(self.text)
        self.text = chunk.delta if chunk.restart else self.text + chunk.delta
        self.chunks += 1
        assert chunk.text == self.text, "3: the deltas since the last restart are the text"
        assert chunk.text.startswith(self.prefix) or self.struck, "3: what an earlier page had shown stays"
        assert not self.ends, "2: nothing after the last chunk"

    def check_parts(self, parts: tuple[Part, ...]) -> None:
        """What was shown and then begun anew is kept."""
        assert [part.text for part in parts if part.struck] in ([self.struck, []] if not self.streaming else [self.struck]), "3"

    def keep(self, error: HybridError) -> None:
        """The request ended with this error."""
        assert error.text.startswith(self.text), "3: the error keeps the text"
        if self.streaming and not isinstance(error, Aborted):  # a stop drops chunks that nobody has read, a restart among them
            self.check_parts(error.parts)
        self.text = error.text
        self.ends.append(error)

    @property
    def request_id(self) -> str:
        """As the orchestrator knows it."""
        return f"r{self.number}"


class Orchestrator(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        loaded=st.sampled_from([True, True, True, False]),
        mode=st.sampled_from(["local", "local", "cloud"]),
        cut=st.sampled_from([0, 1, 5]),
    )
    def begin(self, loaded: bool, mode: str, cut: int) -> None:
        """A page, perhaps with a model."""
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.asked: list[Asked] = []
        self.faults: dict[str, tuple[Any, int]] = {"local": (None, 0), "cloud": (None, 0)}
        self.useless: set[int] = set()
        self.do(self.set_up(loaded, mode, cut))

    async def set_up(self, loaded: bool, mode: str, cut: int) -> None:
        """Build it."""
        desk = self.desk = Desk()
        desk.upstream.cut = cut
        desk.engine.default = lambda args: self.script("local", args)
        desk.upstream.default = lambda body: self.script("cloud", body)
        desk.events.tap(self.status_is_right)
        original = desk.hybrid._run

        def recorded(messages: Any, options: Any, only: Any, *, streaming: bool, **more: Any) -> Run:
            run = original(messages, options, only, streaming=streaming, **more)
            next(one for one in self.asked if one.request_id == run.id).run = run
            return run

        desk.hybrid._run = recorded  # type: ignore[method-assign]
        if loaded:
            await desk.local.init("tiny")
        desk.hybrid.set_mode(mode)

    def do(self, work: Any) -> Any:
        """Run until it is done."""
        return self.loop.run_until_complete(work)

    def script(self, side: str, args: dict[str, Any]) -> list[Any]:
        """Words with the question's number, and the fault of the day after some of them."""
        fault, at = self.faults[side]
        if not (found := NUMBER.findall(str(args["messages"]))):
            return ["Yes."] if fault is None else [fault]  # the trial of a model that had failed
        number, words = found[0], [f"{side}#{found[0]} w{index} " for index in range(40)]
        if fault is NO_CALL:
            self.useless.add(int(number))
        return words if fault is None else [*words[:at], fault, *words[at:]]

    # -- what happens

    @rule(
        streaming=st.booleans(),
        private=st.sampled_from([False] * 7 + [True]),
        side=st.sampled_from([""] * 8 + ["_local", "_cloud"]),
        timeout=st.sampled_from([None] * 8 + [30, 2000]),
        more=st.sampled_from(MORE),
        resumed=st.sampled_from([None] * 8 + ["local", "cloud"]),
    )
    def ask(  # noqa: PLR0917
        self, streaming: bool, private: bool, side: str, timeout: int | None, more: dict[str, Any], resumed: str | None = None
    ) -> None:
        """Somebody asks, or resumes an answer of an earlier page."""
        closed = private or self.desk.hybrid.get_mode() == "local-only"
        one = Asked(len(self.asked), closed, streaming and not side, slow=len(self.asked) % 2 == 0, trims="trim" in more)
        self.asked.append(one)
        options = {"request_id": one.request_id, "private": private, "timeout_ms": timeout, "max_output_tokens": 50, **more}
        if resumed:
            one.streaming, one.prefix, side = True, f"local#{one.number} w0 local#{one.number} w1 ", resumed
        one.task = self.loop.create_task(self.consume(one, side, options))
        self.do(asyncio.sleep(0.0001))

    async def consume(self, one: Asked, side: str, options: dict[str, Any]) -> None:
        """Read the answer as a careful caller would."""
        said = f"{'SECRET' if one.private else 'question'} #{one.number}?"
        old = [{"role": "user", "content": said}, {"role": "assistant", "content": f"old #{one.number}"}] * 3
        ask, hybrid = [*(old if one.trims else []), {"role": "user", "content": said}], self.desk.hybrid
        try:
            if one.streaming:
                stream = hybrid.resume(ask, one.prefix, options, side) if one.prefix else hybrid.stream(ask, options)
                async for chunk in stream:
                    one.take(chunk)
                    if one.slow and not chunk.done:
                        await asyncio.sleep(0.03)  # the next chunks pile up
                    if chunk.done:
                        assert chunk.completion is not None, "2: the last chunk has usage"
                        one.check_parts(chunk.completion.parts)
                        one.ends.append(chunk.completion)
            else:
                done = await getattr(self.desk.hybrid, f"complete{side}")(ask, options)
                one.text = done.text
                one.ends.append(done)
        except HybridError as error:
            one.keep(error)
        except asyncio.CancelledError:
            one.walked = True

    @rule(
        fault=st.sampled_from(sorted(LOCAL_FAULTS)),
        at=st.integers(0, 5),
        streaming=st.booleans(),
        private=st.sampled_from([False, False, True]),
        then=st.sampled_from(["", "", "stop", "walk", "die", "another"]),
        after=st.sampled_from([0.0, 0.005, 0.03, 0.1, 1.5]),
        more=st.sampled_from(MORE),
    )
    def ask_and(  # noqa: PLR0917
        self, fault: str, at: int, streaming: bool, private: bool, then: str, after: float, more: dict[str, Any]
    ) -> None:
        """Somebody asks, something fails, and in the middle of it something happens."""
        self.faults["local"] = (LOCAL_FAULTS[fault], at)
        self.ask(streaming, private, "", None, more)
        one = self.asked[-1]
        self.do(asyncio.sleep(after))
        if then == "stop":
            self.stop_one(one)
        elif then == "walk":
            self.walk_one(one)
        elif then == "die":
            self.lose_the_engine("die")
        elif then == "another":
            self.ask(streaming, False, "", None, {})
        self.do(asyncio.sleep(0.05))

    @rule(s=st.sampled_from([0, 0.001, 0.005, 0.011, 0.02, 0.05, 0.2, 1, 4]))
    def wait(self, s: float) -> None:
        """Time passes."""
        self.do(asyncio.sleep(s))

    @rule(s=st.sampled_from([0.005, 0.02, 0.05, 0.2, 2, 8]))
    def wait_more(self, s: float) -> None:
        """More often than other things."""
        self.do(asyncio.sleep(s))

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def stop(self, data: st.DataObject) -> None:
        """The person presses stop."""
        self.stop_one(data.draw(st.sampled_from(self.asked)))

    def stop_one(self, one: Asked) -> None:
        """A stop, and what must follow it."""
        if self.desk.hybrid.abort(one.request_id):
            assert not one.ends, "a request that had ended cannot be stopped"
            one.stopped_at = len(self.desk.seen)
            chunks = one.chunks
            self.do(asyncio.sleep(0.05))
            assert one.chunks == chunks, "4: no chunk follows a stop"

    @rule(data=st.data())
    @precondition(lambda self: self.asked)
    def walk_away(self, data: st.DataObject) -> None:
        """The consumer leaves."""
        self.walk_one(data.draw(st.sampled_from(self.asked)))

    def walk_one(self, one: Asked) -> None:
        """The task that reads the answer is cancelled."""
        assert one.task is not None
        one.task.cancel()
        self.do(asyncio.sleep(0))

    @rule(side=st.sampled_from(["local", "cloud"]), data=st.data(), at=st.integers(0, 5))
    def next_fault(self, side: str, data: st.DataObject, at: int) -> None:
        """From now on this side fails like that, after so many words."""
        faults = LOCAL_FAULTS if side == "local" else CLOUD_FAULTS
        fault = faults[data.draw(st.sampled_from(["none"] * 3 + sorted(faults)))]
        self.faults[side] = (fault, 0 if isinstance(fault, Refuse | Unreachable) else at)

    @rule(mode=st.sampled_from(["local", "local", "cloud", "local-only", "cloud-only", "junk"]), manual=st.booleans())
    def switch(self, mode: str, manual: bool) -> None:
        """The mode changes."""
        could = mode not in {"junk", "local"} or (mode == "local" and self.desk.local.is_ready())
        assert self.desk.hybrid.set_mode(mode, manual) is could

    @rule(how=st.sampled_from(["die", "lose"]))
    def lose_the_engine(self, how: str) -> None:
        """The worker or the device goes."""

        async def lose() -> None:
            getattr(self.desk.engine, how)()

        self.do(lose())

    @rule(what=st.sampled_from(["init", "init", "init", "switch_model", "unload", "cancel_load"]))
    def load(self, what: str) -> None:
        """The person loads and unloads."""
        local = self.desk.local
        model = {"init": ["tiny"], "switch_model": ["smollm2-135m"]}.get(what, [])
        task = self.loop.create_task(getattr(local, what)(*model))
        task.add_done_callback(self.no_exception)
        self.do(asyncio.sleep(0))

    def no_exception(self, task: asyncio.Task[Any]) -> None:
        """LocalLLM's methods answer; they never raise."""
        if task.cancelled() or task.exception():
            self.problems.append(("raised", task))

    @rule(hidden=st.booleans(), frozen=st.sampled_from([0, 0, 5000]), jump=st.sampled_from([0.0, 0.0, 0.4, 20.0, 4000.0]))
    def look_away(self, hidden: bool, frozen: int, jump: float) -> None:
        """The page is hidden, frozen, or the machine sleeps."""
        self.loop.jump(jump)
        self.desk.hybrid.visibility(hidden=hidden, frozen_ms=frozen)
        self.do(asyncio.sleep(0.01))

    @rule(what=st.sampled_from(["up", "online", "up", "online", "down", "offline"]))
    def network(self, what: str) -> None:
        """Server and network come and go."""
        if what in {"down", "up"}:
            self.desk.upstream.down = what == "down"
        else:
            self.desk.gateway.online(what == "online")

    @rule(bad=st.sampled_from([([], None), ([{"role": "user", "content": "x"}], {"temperature": 9}), (None, {})]))
    def ask_badly(self, bad: tuple[Any, Any]) -> None:
        """8: a caller's mistake is raised at once and touches nobody."""
        before = len(self.desk.engine.chats), len(self.desk.upstream.chats), self.desk.hybrid.get_usage_stats()
        with pytest.raises(CallerError):
            self.desk.hybrid.complete(*bad).send(None)  # before its first wait: nothing else has moved
        assert (len(self.desk.engine.chats), len(self.desk.upstream.chats), self.desk.hybrid.get_usage_stats()) == before

    # -- what must be so

    @invariant()
    def local_means_ready(self) -> None:
        """The mode in force is never `local` without a model that is ready."""
        if hasattr(self, "desk") and self.desk.hybrid.get_mode() == "local":
            assert self.desk.local.is_ready()

    def status_is_right(self, name: str, detail: dict[str, Any]) -> None:
        """7: inside an event the status says what the event says."""
        status = self.desk.hybrid.get_status()
        if name == "local-llm:ready":
            self.wrong = not status["local_ready"] or status["local_model"] != detail["model"]
        elif name in {"local-llm:unloaded", "local-llm:error"}:
            self.wrong = status["local_ready"]
        elif name == "hybrid-llm:mode-changed":
            self.wrong = status["mode"] != detail["to"]
        else:
            return
        self.problems.append((name, detail, status)) if self.wrong else None

    problems: list[Any] = []  # noqa: RUF012 - reset at teardown

    def teardown(self) -> None:
        """Stop what still runs, let everything settle, and check all that must be so at the end."""
        if not hasattr(self, "loop"):
            return
        self.desk.hybrid.visibility(hidden=False)
        try:
            self.settle()
            self.check()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.do(asyncio.sleep(0))
            Orchestrator.problems = []
            self.loop.close()
            asyncio.set_event_loop(None)

    def settle(self) -> None:
        """Everybody leaves."""
        self.do(asyncio.sleep(0.1))
        for one in self.asked:
            if not one.ends and not one.walked and self.desk.hybrid.abort(one.request_id):
                one.stopped_at = len(self.desk.seen)
        self.faults["local"] = (None, 0)  # a trial that begins from now on ends
        engine = self.desk.engine
        # Enough for every stop to be through and a trial of a model that had failed to be given up; too short for an answer.
        bound = UNKNOWN[0] + TICK_S if "probe" in engine._aborted else 1.0
        self.do(asyncio.sleep(PING_AFTER_S + PING_S + 2 * TICK_S if engine.silent else bound))
        assert self.desk.free, "9: every lock, worker request and HTTP stream is released"
        self.do(asyncio.sleep(60))

    def check(self) -> None:
        """The invariants that can be told from the record."""
        desk = self.desk
        assert self.problems == [], "7"
        assert desk.free, "9: every lock, worker request and HTTP stream is released"
        assert all("SECRET" not in str(body) for body in desk.upstream.chats), "5: private never leaves"
        for one in self.asked:
            self.check_one(one)
        totals = [one.run.walk.answer.spent for one in self.asked if one.run]
        stats = desk.hybrid.get_usage_stats()
        booked = stats["local"]["tokens"] + stats["cloud"]["tokens"]
        assert booked == sum(totals, Usage()).total_tokens, "6: the ledger is the sum of the usages"
        assert sum(model["tokens"] for model in stats["models"]) == booked, "6"

    def check_one(self, one: Asked) -> None:
        """One request's record."""
        hedges = [
            detail for name, detail in self.desk.seen if name == "hybrid-llm:hedge" and detail["request_id"] == one.request_id
        ]
        changes = [
            (index, detail)
            for index, (name, detail) in enumerate(self.desk.seen)
            if name in {"hybrid-llm:fallback", "hybrid-llm:handover"} and detail["request_id"] == one.request_id
        ]
        calls = [chat for chat in self.desk.engine.chats if chat["request_id"] == one.request_id]
        assert len(changes) <= 1, "1: at most one change of provider"
        most = (6 if one.trims else 1) * (2 if one.number in self.useless else 1)
        assert len(calls) <= most, "1: the engine is asked once, but with ever less of a conversation, and for what was of no use"
        assert len(hedges) <= 1, "1: a hedge is the one change"
        if hedges and changes:
            assert changes[0][1]["to"] == hedges[0]["to"], "1: a change after a hedge is its outcome"
        assert all(detail["from"] != detail["to"] for _, detail in changes), "1: never to the same side"
        assert one.walked or len(one.ends) == 1, f"2: exactly one end, not {one.ends}"
        assert set(NUMBER.findall(one.text)) <= {str(one.number)}, "10: no text of another request"
        if one.stopped_at is not None and not one.walked:
            assert isinstance(one.ends[0], Aborted), "a stop is the end"
            assert all(index < one.stopped_at for index, _ in changes), "4: a stop never causes a change"
        if one.prefix:
            assert changes == [], "1: what is resumed goes where the person said"
        if one.private:
            assert hedges == [], "5: nothing that is private is hedged"
            assert changes == [], "5: a private request fails closed"


Orchestrator.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestOrchestrator = Orchestrator.TestCase


@pytest.mark.long
class TestOrchestratorLong(Orchestrator.TestCase):  # type: ignore[misc,name-defined]
    """Thousands of schedules."""

    settings = settings(max_examples=3000, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_trial_of_a_worker_that_dies_without_a_word_ends() -> None:
    """Found by the long run: a model's trial waited for ever for a silent worker; it is given up, and the worker replaced."""
    state = Orchestrator()
    state.begin(loaded=True, mode="local", cut=0)
    for fault, then, after in (
        ("none", "another", 0.0),
        ("bad format", "die", 0.0),
        ("bad format", "", 1.5),
        ("silent", "", 0.0),
    ):
        state.ask_and(fault=fault, at=0, streaming=False, private=False, then=then, after=after, more={})
    state.look_away(hidden=False, frozen=0, jump=20.0)
    assert state.desk.engine.silent, "the trial met a worker that is gone"
    restarts = state.desk.engine.restarts
    state.teardown()
    assert state.desk.engine.restarts == restarts + 1


def test_a_trial_of_a_model_that_stalls_is_given_up() -> None:
    """Found by the long run: a trial may hold the engine for as long as silence is fair; nobody is to wait behind it."""
    state = Orchestrator()
    state.begin(loaded=True, mode="local", cut=0)
    for fault in ("silent", "bad format", "stall"):
        state.ask_and(fault=fault, at=0, streaming=False, private=False, then="", after=0.0, more={})
    state.lose_the_engine("die")
    for _ in range(10):
        if "probe" not in state.desk.engine._aborted:
            state.wait_more(8)
    assert "probe" in state.desk.engine._aborted, "the trial met a model that stalls"
    assert state.desk.hybrid.get_status()["breaker"]["local"] == "half-open"
    state.faults["local"] = (None, 0)
    state.ask(False, False, "", None, {})
    state.wait_more(2)
    assert [end.provider for end in state.asked[-1].ends] == ["cloud"], "a person does not wait behind a trial"
    state.teardown()
