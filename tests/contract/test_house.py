"""The gateway in front of a real llama.cpp."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from serving import asking, listening, parts_in, question, said, soon, stream

from hybr.server.providers import house

if TYPE_CHECKING:
    from hybr.server.serve import Parts

STORY = "Write a very long story about a ship. Begin with the harbour."


@pytest.fixture
def parts(tmp_path: Path, gguf: Path) -> Parts:
    """Parts whose house model has its weights."""
    return parts_in(tmp_path, weights=gguf)


async def busy(parts: Parts) -> int:
    """Return how many of llama.cpp's slots generate now."""
    endpoint = await parts.house.llama.endpoint()
    headers = {"authorization": f"Bearer {endpoint.key}"}
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{endpoint.address}/slots", headers=headers) as answer:
            return sum(slot["is_processing"] for slot in await answer.json())
    except aiohttp.ClientError:
        return 0  # dead, so not busy


async def idle(parts: Parts) -> bool:
    """Say whether no slot generates."""
    return not await busy(parts)


async def test_paris(parts: Parts) -> None:
    """The capital of France is Paris, streamed token by token, with usage on the last chunk and a proper end."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        body = question(stream_options={"include_usage": True})
        events: list[Any] = [event async for event in stream(session, address, body)]
    assert events.pop() == "[DONE]"
    assert said(events) == "The capital of France is Paris."
    assert (
        len([event for event in events if event["choices"] and event["choices"][0]["delta"].get("content")]) == 7
    )  # and the end mark, which is no text
    assert [event["choices"][0]["finish_reason"] for event in events if event["choices"]][-1] == "stop"
    usage = events[-1]["usage"]
    # <|im_start|>user\n...<|im_end|>\n<|im_start|>assistant\n is 16 tokens: no system turn was added.
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (16, 8, 24)
    assert {event["model"] for event in events} == {"smollm2-135m"}
    assert str(Path.home()) not in json.dumps(events)


async def test_plain(parts: Parts) -> None:
    """The same without a stream: one JSON object, and headers that say who answered."""
    async with asking(parts) as client:
        answer = await client.post("/v1/chat/completions", json=question(model="smollm2-135m"))
    body = answer.json()
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert body["usage"]["total_tokens"] == 24
    assert (answer.headers["x-hybr-provider"], answer.headers["x-hybr-attempts"]) == ("house", "1")
    assert answer.headers["cache-control"] == "no-store"


async def test_models(parts: Parts) -> None:
    """The house model is listed first, with its window and what it can do."""
    async with asking(parts) as client:
        body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    first = body["data"][0]
    assert (first["id"], first["object"], first["owned_by"], first["context_length"]) == ("smollm2-135m", "model", "house", 2048)
    assert first["capabilities"] == {"prefill": True, "tools": False, "images": False}


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}, 18),
        ({"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}, 18),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}]}, 10),
    ],
)
async def test_templates(parts: Parts, fields: dict[str, Any], tokens: int) -> None:
    """A system turn is there when it was sent and only then; parts are one text."""
    async with asking(parts) as client:
        body = (await client.post("/v1/chat/completions", json=question(**fields))).json()
    assert body["usage"]["prompt_tokens"] == tokens


async def test_prefill(parts: Parts) -> None:
    """A conversation that ends with the assistant's words is gone on with, not answered anew."""
    messages = [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "The capital of"}]
    async with asking(parts) as client:
        body = (await client.post("/v1/chat/completions", json=question(messages=messages))).json()
    assert body["choices"][0]["message"]["content"].removeprefix("The capital of") == " France is Paris."


async def test_options(parts: Parts) -> None:
    """max_tokens, stop, seed and JSON output are honoured."""
    async with asking(parts) as client:

        async def ask(**fields: Any) -> dict[str, Any]:
            answer = await client.post("/v1/chat/completions", json=question(**fields))
            assert answer.status_code == 200, answer.text
            choice: dict[str, Any] = answer.json()["choices"][0]
            return choice

        short = await ask(max_tokens=3)
        stopped = await ask(stop=[" of"])
        seeded = [(await ask(text=STORY, temperature=1.2, seed=seed))["message"]["content"] for seed in (-5, -5)]
        made = await ask(text="Give me a JSON object.", response_format={"type": "json_object"}, max_tokens=100)
        parts.house.sampling = {"max_tokens": 2, "temperature": 0}
        silent = await client.post("/v1/chat/completions", json={"messages": question()["messages"]})
        spoken = await client.post("/v1/chat/completions", json={"messages": question()["messages"], "max_tokens": 3})
    assert silent.json()["choices"][0]["message"]["content"] == "The capital", "the catalogue's sampling, where nothing is said"
    assert spoken.json()["choices"][0]["message"]["content"] == "The capital of", "what the request says goes before it"
    assert (short["message"]["content"], short["finish_reason"]) == ("The capital of", "length")
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("The capital", "stop")
    assert seeded[0] == seeded[1]
    assert made["message"]["content"].startswith("{")


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "context_length_exceeded", "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported", "tools"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "unsupported", "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "unsupported",
            "messages[0].content",
        ),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [CALL]}]}, "unsupported", "messages[0]"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "what"}}}},
            "refused_by_model",
            None,
        ),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_refusals(parts: Parts, fields: dict[str, Any], code: str, field: str | None, streamed: bool) -> None:
    """What the house model cannot do is said before anything is streamed, in our envelope, as the caller's to change."""
    async with asking(parts) as client:
        answer = await client.post("/v1/chat/completions", json=question(stream=streamed, **fields))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("field")) == (400, code, field)
    assert error["retryable"] is False


@pytest.mark.parametrize("phase", ["prefill", "decode", "plain"])
async def test_leaving_stops_the_generation(parts: Parts, phase: str) -> None:
    """When the client goes, llama.cpp stops working for it, in every phase, and the next question is answered."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        await parts.house.llama.endpoint()
        text = STORY if phase != "prefill" else "Tell me of cats and dogs. " * 250
        body = question(text, max_tokens=1500 if phase != "prefill" else 100, stream=phase != "plain", temperature=1)
        asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=body))
        if phase == "decode":
            answer = await asked
            for _ in range(4):
                await answer.content.readline()
            answer.close()
        else:
            await soon(lambda: busy(parts))
            if phase == "plain":
                await asyncio.sleep(1)  # into the decoding
            asked.cancel()
        await soon(lambda: idle(parts), 15)  # the rest of it would take longer; a busy machine may need some seconds for a batch
        again = [event async for event in stream(session, address, question())]
        assert said(again[:-1]) == "The capital of France is Paris."


async def both(parts: Parts) -> bool:
    """Say whether both slots generate."""
    return await busy(parts) == 2


async def test_leaving_harms_nobody_else(parts: Parts) -> None:
    """When one client leaves in its prompt's reading, another's answer goes on undisturbed."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        child = (await parts.house.llama.endpoint()).child
        other = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=question(STORY, max_tokens=80)))
        leaver = asyncio.create_task(
            session.post(f"{address}/v1/chat/completions", json=question("Tell me of cats and dogs. " * 120, stream=True))
        )
        await soon(lambda: both(parts))
        leaver.cancel()
        answer = await (await other).json()
        assert answer["usage"]["completion_tokens"] == 80
        assert (await parts.house.llama.endpoint()).child.pid == child.pid


async def test_killed_in_mid_stream(parts: Parts) -> None:
    """When llama.cpp dies in mid-answer the stream ends in our error event; the next request is answered by a new one."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        seen: list[Any] = []
        async for event in stream(session, address, question(STORY, max_tokens=1500)):
            seen.append(event)
            if len(seen) == 5:
                os.kill((await parts.house.llama.endpoint()).child.pid, signal.SIGKILL)
        assert "[DONE]" not in seen
        assert not any(event["choices"][0]["finish_reason"] for event in seen[:-1])
        error = seen[-1]["error"]
        assert (error["code"], error["type"], error["retryable"], error["attempts"]) == ("stream_cut", "upstream_error", True, 1)
        again = [event async for event in stream(session, address, question())]
        assert said(again[:-1]) == "The capital of France is Paris."


async def test_killed_before_the_first_byte(parts: Parts) -> None:
    """When llama.cpp dies before it said anything, the request is sent once more to a new one, and the answer says so."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        first = await parts.house.llama.endpoint()
        body = question("Tell me of cats and dogs. " * 120, max_tokens=4)
        asked = asyncio.create_task(session.post(f"{address}/v1/chat/completions", json=body))
        await soon(lambda: busy(parts))
        os.kill(first.child.pid, signal.SIGKILL)
        answer = await asked
        assert answer.status == 200
        assert answer.headers["x-hybr-attempts"] == "2"
        assert (await parts.house.llama.endpoint()).child.pid != first.child.pid


async def test_one_start_for_many(parts: Parts) -> None:
    """Requests that arrive together at a cold house model wait for one start, and one that leaves does not end it."""
    async with asking(parts) as client:
        starts = [asyncio.create_task(parts.house.llama.endpoint()) for _ in range(5)]
        await asyncio.sleep(0.05)
        starts.pop().cancel()
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=question()) for _ in range(4)))
        pids = {(await start).child.pid for start in starts}
    assert len(pids) == 1
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"The capital of France is Paris."}


@pytest.mark.parametrize("weights", ["missing", "empty", "truncated"])
async def test_weights_that_do_not_load(tmp_path: Path, gguf: Path, weights: str) -> None:
    """Weights that are missing or broken are a 503 with the reason, the server lives, and mended weights work at once."""
    path = tmp_path / "weights.gguf"
    if weights == "empty":
        path.touch()
    if weights == "truncated":
        with gguf.open("rb") as whole:
            path.write_bytes(whole.read(1_000_000))
    parts = parts_in(tmp_path, weights=path)
    async with asking(parts) as client:
        answer = await client.post("/v1/chat/completions", json=question())
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "house_unavailable"
        assert "house model" in answer.json()["error"]["message"]
        assert parts.house.llama.state == "failed"
        parts.house.weights = gguf
        answer = await client.post("/v1/chat/completions", json=question())
        assert answer.status_code == 200


async def test_only_with_the_key(parts: Parts) -> None:
    """Another program of this machine that finds the port cannot use it, and no page of any site may read from it."""
    endpoint = await parts.house.llama.endpoint()
    assert endpoint.address.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session:
        for key in ("", "Bearer wrong"):
            async with session.post(
                f"{endpoint.address}/v1/chat/completions", json=question(), headers={"authorization": key}
            ) as answer:
                assert answer.status == 401
    await parts.stop()


async def test_stopped_with_the_parts(parts: Parts) -> None:
    """After the stop no child is left, also when it was still starting."""
    await parts.house.llama.endpoint()
    child = (await parts.house.llama.endpoint()).child
    await parts.stop()
    assert not child.running


async def test_first_token_comes_through_at_once(parts: Parts) -> None:
    """Nothing is held back: the first token is there long before the last."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        await parts.house.llama.endpoint()  # its start is no part of the answer
        begin = time.monotonic()
        times = [time.monotonic() - begin async for _ in stream(session, address, question(STORY, max_tokens=60))]
    assert times[1] < times[-1] / 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait six seconds for llama.cpp's next bytes instead of two minutes."""
    monkeypatch.setattr(house, "TIMES", aiohttp.ClientTimeout(total=120, sock_read=6))
    monkeypatch.setattr(house, "HUNG", 2)


@pytest.mark.usefixtures("impatient")
async def test_silent_in_mid_stream(parts: Parts) -> None:
    """A model that falls silent is an error event after the wait, its process is replaced, and the next request works (6)."""
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        seen: list[Any] = []
        child = (await parts.house.llama.endpoint()).child
        async for event in stream(session, address, question(STORY, max_tokens=1500)):
            seen.append(event)
            if len(seen) == 3:
                os.kill(child.pid, signal.SIGSTOP)
        assert (seen[-1]["error"]["code"], seen[-1]["error"]["type"]) == ("stream_stalled", "timeout_error")
        assert "[DONE]" not in seen
        await soon(lambda: not child.running)
        again = [event async for event in stream(session, address, question())]
        assert said(again[:-1]) == "The capital of France is Paris."


@pytest.mark.usefixtures("impatient")
async def test_silent_before_the_first_byte(parts: Parts) -> None:
    """A model that never begins is a 504 after the wait, not asked twice: the next would wait as long (5)."""
    async with asking(parts) as client:
        child = (await parts.house.llama.endpoint()).child
        os.kill(child.pid, signal.SIGSTOP)
        answer = await client.post("/v1/chat/completions", json=question())
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["attempts"], error["retryable"]) == (504, "timeout", 1, True)
        await soon(lambda: not child.running)


async def test_killed_twice(parts: Parts) -> None:
    """A request that takes the model's process down each time is given up after two, and says so."""
    async with asking(parts) as client:

        async def killer() -> None:
            while True:
                if await busy(parts):
                    os.kill((await parts.house.llama.endpoint()).child.pid, signal.SIGKILL)
                await asyncio.sleep(0.02)

        killing = asyncio.create_task(killer())
        answer = await client.post("/v1/chat/completions", json=question("Tell me of cats and dogs. " * 200))
        killing.cancel()
        error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["attempts"], error["retryable"]) == (502, "house_crashed", 2, True)
