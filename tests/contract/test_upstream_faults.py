"""The adverse list of facts/gateway.md, the provider's faults: each test is named by its number there."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from fakes import anthropic, gemini, openai
from fakes.gateway import QUICK, parts_of, remote_of
from fakes.wire import NEVER, Script, answered, chunked, events, head, streamed, wired
from serving import asking, listening, question, soon

from hybr.server.providers.remote import Patience

if TYPE_CHECKING:
    from pathlib import Path

SAID = events(openai.chunk({"role": "assistant", "content": "Hi"}))
GOOD = events(*openai.told("Hi"))
MUTE = Patience(connect=30, first=0.3, idle=30, total=120)  # who never begins is given up soon
SILENT = Patience(connect=30, first=30, idle=0.3, total=120)  # and so is who falls silent
KEYS = {"openai": openai.KEY, "anthropic": anthropic.KEY, "gemini": gemini.KEY}
MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-flash-latest"}
ALL = pytest.mark.parametrize("name", list(KEYS))
BEGUN = {
    "openai": SAID,
    "anthropic": anthropic.framed(*anthropic.told("Hi")[:-2]),
    "gemini": gemini.framed(gemini.part({"text": "Hi"})),
}


async def ask(folder: Path, script: Script, name: str = "openai", patience: Patience = QUICK, **fields: Any) -> Any:
    """Return the gateway's answer when the provider follows `script`; then it must answer a good question."""
    scripts = [script, streamed(GOOD)]
    async with wired(lambda _: scripts.pop(0)) as wire:
        parts = parts_of(folder, name, wire.address, KEYS[name], patience)
        async with asking(parts) as client:
            body = question(**{"model": f"{name}/{MODELS[name]}", **fields})
            answer = await client.post("/v1/chat/completions", json=body)
            if name == "openai":
                remote_of(parts).patience = QUICK
                again = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini"))
                assert again.status_code == 200
    assert KEYS[name] not in answer.text + str(answer.headers)
    assert wire.address.removeprefix("http://") not in answer.text
    assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))
    return answer


def error_of(answer: Any) -> dict[str, Any]:
    """Return the error: the whole answer, or the stream's last event, after which nothing comes."""
    if answer.headers["content-type"] == "application/json":
        return answer.json()["error"]  # type: ignore[no-any-return]
    assert "[DONE]" not in answer.text
    assert '"finish_reason":"' not in answer.text
    last = answer.text.rstrip("\n").rsplit("\n\n", 1)[-1]
    return json.loads(last.removeprefix("data: "))["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("streamed_", [True, False])
async def test_1_refused_and_reset(tmp_path: Path, streamed_: bool) -> None:
    """Nobody listening, and a reset before a byte, are 502s in our envelope without an address or key."""
    error = await ask(tmp_path, [], stream=streamed_)
    assert (error.status_code, error_of(error)["code"], error_of(error)["retryable"]) == (502, "connection_broken", True)
    async with asking(parts_of(tmp_path, "openai", "http://127.0.0.1:1", openai.KEY)) as client:
        answer = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini", stream=streamed_))
    assert (answer.status_code, error_of(answer)["code"]) == (502, "unreachable")
    assert "127.0.0.1" not in answer.text


@ALL
async def test_2_a_401_with_our_key(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The refusal names neither key nor address, the key is marked suspect, and the log and report are as silent."""
    caplog.set_level(logging.DEBUG)
    key = KEYS[name]
    text = f"Incorrect API key {key} at https://internal.example; it was {key[:8]}...{key[-4:]}"
    async with wired(lambda _: answered(401, {"error": {"message": text, "type": "auth"}})) as wire:
        parts = parts_of(tmp_path, name, wire.address, key)
        async with asking(parts) as client:
            answer = await client.post("/v1/chat/completions", json=question(model=f"{name}/{MODELS[name]}"))
            report = await client.get("/api/providers")
    assert (answer.status_code, error_of(answer)["code"], error_of(answer)["retryable"]) == (502, "key_refused", False)
    first = report.json()["data"][0]
    assert (first["name"], first["available"]) == (name, False)
    assert "key" in first["reason"]
    everything = answer.text + report.text + caplog.text + repr(parts.remotes) + str(vars(remote_of(parts)))
    assert not any(word in everything for word in (key, key[-4:] + '"', "internal.example"))


async def test_2_a_400_with_our_key(tmp_path: Path) -> None:
    """The words that pass, those of a 400, pass without the key too."""
    answer = await ask(tmp_path, openai.error(400, f"bad value; you sent Bearer {openai.KEY} to http://10.0.0.1/x"))
    assert error_of(answer)["message"].startswith("openai refused the request: bad value; you sent ***")
    assert "10.0.0.1" not in answer.text


@ALL
@pytest.mark.parametrize(
    ("status", "ours", "code"), [(429, 429, "rate_limited"), (503, 503, "overloaded"), (529, 503, "overloaded")]
)
async def test_3_wait(tmp_path: Path, name: str, status: int, ours: int, code: str) -> None:
    """A provider's limit is passed on with its Retry-After, when that is a number."""
    for given, passed in (("7", "7"), ("999999999", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("99999", "3600")):
        script = answered(status, {"error": {"message": "x", "type": "x"}}, retry_after=given)
        answer = await ask(tmp_path, script, name)
        assert (answer.status_code, error_of(answer)["code"], error_of(answer)["retryable"]) == (ours, code, True)
        assert answer.headers.get("retry-after") == passed


async def test_3_quota_is_no_limit(tmp_path: Path) -> None:
    """An empty account is not a thing to wait for."""
    answer = await ask(tmp_path, openai.error(429, "You exceeded your current quota", code="insufficient_quota"))
    assert (error_of(answer)["code"], error_of(answer)["retryable"]) == ("quota", False)


@pytest.mark.parametrize("status", [200, 400, 404, 500, 502, 503])
async def test_4_html(tmp_path: Path, status: int) -> None:
    """A page of markup is a JSON error without a word of it."""
    answer = await ask(tmp_path, answered(status, b"<html><script>alert(1)</script></html>", "text/html"))
    assert answer.status_code >= 400
    assert "<" not in answer.text
    assert error_of(answer)["message"]


@pytest.mark.parametrize("script", [[NEVER], [head(), NEVER], [head()[:20], NEVER]])
async def test_5_never_answers(tmp_path: Path, script: Script) -> None:
    """The first byte has its time, and no more."""
    answer = await ask(tmp_path, script, patience=MUTE, stream=True)
    assert (answer.status_code, error_of(answer)["code"], error_of(answer)["retryable"]) == (504, "timeout", True)


@ALL
async def test_6_falls_silent(tmp_path: Path, name: str) -> None:
    """Silence in mid-stream ends in an error event, not in an end."""
    answer = await ask(tmp_path, [head(), BEGUN[name], NEVER], name, SILENT, stream=True)
    assert (answer.status_code, error_of(answer)["code"]) == (200, "stream_stalled")
    assert '"content":"Hi"' in answer.text


@ALL
@pytest.mark.parametrize("streamed_", [True, False])
async def test_7_cut(tmp_path: Path, name: str, streamed_: bool) -> None:
    """A connection cut in mid-stream is an error, streamed or plain; what came before it is delivered."""
    script: Script = [streamed(BEGUN[name])[0], chunked(BEGUN[name]), b"20\r\ndata: {"]
    answer = await ask(tmp_path, script, name, stream=streamed_)
    assert (answer.status_code, error_of(answer)["code"]) == (200 if streamed_ else 502, "stream_cut")


@ALL
async def test_8_ends_without_an_end(tmp_path: Path, name: str) -> None:
    """A stream that closes well but never said how it ended was cut."""
    answer = await ask(tmp_path, streamed(BEGUN[name]), name, stream=True)
    assert error_of(answer)["code"] == "stream_cut"


async def test_8_done_without_a_finish(tmp_path: Path) -> None:
    """[DONE] alone is no finish reason; a finish reason without [DONE] is an end."""
    answer = await ask(tmp_path, streamed(SAID, b"data: [DONE]\n\n"), stream=True)
    assert error_of(answer)["code"] == "stream_cut"
    answer = await ask(tmp_path, streamed(SAID, events(openai.chunk({}, "stop"))), stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("streamed_", [True, False])
async def test_9_10_json_for_a_stream(tmp_path: Path, streamed_: bool) -> None:
    """Plain JSON where a stream was asked, whole or cut in the middle, is an error of the provider's."""
    for body in (b'{"choices": []}', b'{"choices": [{"mess'):
        answer = await ask(tmp_path, answered(200, body), stream=streamed_)
        assert (answer.status_code, error_of(answer)["code"]) == (502, "bad_answer")


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"delta": {"cont',
        b"5",
        b"[]",
        b"null",
        b'{"choices": 5}',
        b'{"choices": [5]}',
        b'{"usage": {}, "choices": {}}',
    ],
)
async def test_10_events_that_are_none(tmp_path: Path, event: bytes) -> None:
    """An event that cannot be read ends the stream in an error, and nothing after it is believed."""
    answer = await ask(tmp_path, streamed(SAID, events(event), GOOD), stream=True)
    if event == b'{"usage": {}, "choices": {}}':
        assert answer.text.endswith("data: [DONE]\n\n")  # an empty event, in a shape of its own
    else:
        assert error_of(answer)["code"] == "bad_stream"


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("openai", events({"error": {"message": f"key {openai.KEY}", "type": "server_error"}})),
        ("anthropic", anthropic.framed({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})),
        ("gemini", gemini.framed({"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}})),
    ],
)
async def test_11_error_in_a_stream(tmp_path: Path, name: str, event: bytes) -> None:
    """An error event inside a 200 is a typed error of ours, with the provider's one word for it."""
    answer = await ask(tmp_path, streamed(BEGUN[name], event), name, stream=True)
    assert error_of(answer)["code"] == "failed_midway"
    assert any(word in error_of(answer)["message"] for word in ("server_error", "overloaded_error", "UNAVAILABLE"))
    answer = await ask(tmp_path, streamed(event), name, stream=True)
    assert answer.status_code == 502  # nothing had been said, so it is a plain refusal


async def test_14_an_endless_line(tmp_path: Path) -> None:
    """A line of 8 MiB, and one without an end, end in an error at the cap."""
    big = b"x" * (64 * 1024)
    answer = await ask(tmp_path, streamed(SAID, b"data: ", *([big] * 128)), stream=True)
    assert error_of(answer)["code"] == "bad_stream"
    answer = await ask(tmp_path, streamed(SAID, *([b"data: " + big + b"\n"] * 64)), stream=True)
    assert error_of(answer)["code"] == "bad_stream"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_15_redirects(tmp_path: Path, status: int) -> None:
    """A redirect is not followed, wherever it leads."""
    async with wired(lambda _: streamed(GOOD)) as inside:
        answer = await ask(tmp_path, answered(status, b"", location=f"{inside.address}/latest/meta-data"))
    assert (answer.status_code, error_of(answer)["code"], error_of(answer)["retryable"]) == (502, "redirected", False)
    assert inside.asked == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP"])
async def test_16_compressed(tmp_path: Path, encoding: str) -> None:
    """A compressed body, which nobody asked for, is not unfolded."""
    bomb = zlib.compress(b"\0" * 10_000_000)
    answer = await ask(tmp_path, [head(content_encoding=encoding), bomb], stream=True)
    assert (answer.status_code, error_of(answer)["code"]) == (502, "bad_encoding")


async def test_17_hostile_headers(tmp_path: Path) -> None:
    """No header of the provider's reaches the client."""
    hostile = {"set_cookie": "a=b", "content_security_policy": "default-src *", "x_frame_options": "x", "x_hybr_provider": "evil"}
    script = [head(location="http://x", **hostile, **{f"x_{index}": "y" for index in range(100)}), GOOD]
    answer = await ask(tmp_path, script, stream=True)
    assert answer.status_code == 200
    assert not {"set-cookie", "location", "x-frame-options", "x-5"} & set(answer.headers)
    assert "default-src *" not in answer.headers["content-security-policy"]
    assert answer.headers["x-hybr-provider"] == "openai"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        + b"".join(b"X-%d: y\r\n" % i for i in range(100_000))
        + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_17_headers_that_are_none(tmp_path: Path, raw: bytes) -> None:
    """What is no HTTP, or too much of it, is an error of the provider's."""
    answer = await ask(tmp_path, [raw], stream=True)
    assert answer.status_code in {502, 504}
    assert error_of(answer)["retryable"]


async def test_17_a_length_that_lies(tmp_path: Path) -> None:
    """A body shorter than its Content-Length was cut."""
    answer = await ask(tmp_path, [head(content_length="99999"), SAID], stream=True)
    assert error_of(answer)["code"] == "stream_cut"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\nDate: Mon, 01 Jan 1990 00:00:00 GMT\r\nContent-Type: text/event-stream\r\n\r\n" + GOOD,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head() + GOOD,
        streamed(GOOD)[0].replace(b"\r\n\r\n", b"\r\nTrailer: X\r\n\r\n") + chunked(GOOD) + b"0\r\nX: y\r\n\r\n",  # type: ignore[union-attr]
    ],
)
async def test_18_old_and_odd(tmp_path: Path, raw: bytes) -> None:
    """HTTP/1.0, a wrong clock, early hints and trailers change nothing."""
    answer = await ask(tmp_path, [raw], stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")


@ALL
@pytest.mark.parametrize("phase", ["before the first byte", "in mid-stream", "in a plain answer"])
async def test_21_22_the_client_leaves(tmp_path: Path, name: str, phase: str) -> None:
    """In every phase the provider's connection is closed within half a second of the client's leaving."""
    script = [asyncio.Event()] if phase == "before the first byte" else [head(), BEGUN[name], asyncio.Event()]
    async with wired(lambda _: script) as wire:
        parts = parts_of(tmp_path, name, wire.address, KEYS[name])
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            await soon(lambda: wire.gone + len(wire.asked))  # the list of models was asked for
            body = question(model=f"{name}/{MODELS[name]}", stream=phase != "in a plain answer")
            took: list[float] = []
            while not took or (min(took) >= 0.5 and len(took) < 9):  # a busy machine may be late once, and not each time
                wire.asked.clear()
                asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=body))
                await soon(lambda: any(one.method == "POST" for one in wire.asked))
                if phase == "in mid-stream":
                    answer = await asked
                    await answer.content.readline()
                before, left = wire.gone, time.monotonic()
                answer.close() if phase == "in mid-stream" else asked.cancel()
                await soon(lambda before=before: wire.gone > before)
                took.append(time.monotonic() - left)
            assert min(took) < 0.5


@pytest.mark.parametrize("phase", ["before the first byte", "in mid-stream", "never answers", "falls silent"])
async def test_5_6_21_22_what_is_booked(tmp_path: Path, phase: str) -> None:
    """Whoever leaves or fails first, what was reserved is given back, and what had been said by then is booked."""
    begun = phase in {"in mid-stream", "falls silent"}
    script = [head(), BEGUN["openai"], asyncio.Event()] if begun else [asyncio.Event()]
    async with wired(lambda _: script) as wire:
        patience = {"never answers": MUTE, "falls silent": SILENT}.get(phase, QUICK)
        parts = parts_of(tmp_path, "openai", wire.address, KEYS["openai"], patience)
        ended: list[Any] = []
        parts.office.meter.watchers.append(ended.append)
        async with listening(parts) as address, aiohttp.ClientSession() as session:
            body = question(model="openai/gpt-5-mini", stream=True)
            asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=body))
            await soon(lambda: parts.office.meter.running)
            if begun:
                await (await asked).content.readline()
            if patience is QUICK:
                asked.cancel() if not begun else (await asked).close()
            await soon(lambda: ended)
    codes = {"never answers": "timeout", "falls silent": "stream_stalled"}
    assert [booking.kind for booking in ended] == [codes.get(phase, "client_gone")]
    assert parts.office.meter.running == 0
    spent = ended[0].spent
    assert (spent.completion >= 1 and spent.prompt > 0 and spent.cost) if begun else spent is None or spent.completion == 0


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "headers", "extra_headers", "user_config"])
async def test_28_no_destination_from_a_caller(tmp_path: Path, field: str) -> None:
    """Nothing in a request moves it elsewhere or gives it another key."""
    async with (
        wired(openai.answer) as wire,
        wired(openai.answer) as evil,
        asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini", **{field: evil.address}))
    assert (answer.status_code, error_of(answer)["field"], wire.asked, evil.asked) == (400, field, [], [])


async def test_a_kept_connection_that_was_closed(tmp_path: Path) -> None:
    """A request that met a kept connection just closed is sent again; one whose fresh connection breaks is not."""
    async with wired(lambda _: streamed(GOOD)) as wire:  # closes after each answer without saying so before
        async with asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client:
            for _ in range(5):
                answer = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini"))
                assert answer.status_code == 200, answer.text
        assert len(wire.asked) == 5
    async with wired(lambda _: []) as wire, asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client:
        await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini"))
        assert len(wire.asked) == 1


async def test_the_environments_proxy_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names sees nothing of it (adverse list, 48)."""
    async with wired(lambda _: []) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        async with wired(openai.answer) as wire, asking(parts_of(tmp_path, "openai", wire.address, openai.KEY)) as client:
            answer = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini"))
    assert (answer.status_code, proxy.asked) == (200, [])
