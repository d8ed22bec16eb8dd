"""The server keeps to the examples in wire/, which the page's tests read too."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from serving import asking, listening, parts_in, stream

if TYPE_CHECKING:
    from hybr.server.serve import Parts

WIRE = Path(__file__).parent / "wire"
EXAMPLES = {path.stem: json.loads(path.read_text()) for path in sorted(WIRE.glob("*.json"))}
VARY = {"id", "created", "request_id", "timings"}
# What an exchange needs to have happened before it.
BEFORE = {"preferences-conflict": ["preferences-put"], "preferences-unknown": ["preferences-put"]}


@pytest.fixture
def parts(tmp_path: Path, gguf: Path) -> Parts:
    """Parts with the real house model."""
    return parts_in(tmp_path, weights=gguf)


def steady(value: Any, *, name: str = "") -> Any:
    """Return `value` with what differs from run to run replaced by its type; models' ids stay."""
    if isinstance(value, dict):
        return {key: steady(item, name=key) for key, item in value.items()}
    if isinstance(value, list):
        return [steady(item) for item in value]
    if name in VARY and not (name == "id" and isinstance(value, str) and not value.startswith("chatcmpl-")):
        return type(value).__name__
    return "number" if isinstance(value, float) or name.startswith(("prompt_", "predicted_", "cache")) else value


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if "killed_after" not in example])
async def test_as_written(parts: Parts, name: str) -> None:
    """The real answer has the example's status, keys, types and steady values."""
    async with asking(parts) as client:
        for one in [*BEFORE.get(name, []), name]:
            wanted = EXAMPLES[one]
            request = wanted["request"]
            answer = await client.request(request["method"], request["path"], json=request.get("body"))
    found: Any
    if answer.headers["content-type"].startswith("text/event-stream"):
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        found = [piece if piece == "[DONE]" else json.loads(piece) for piece in data]
        found = [piece if piece == "[DONE]" else steady(piece) for piece in found]
        expected = [piece if piece == "[DONE]" else steady(piece) for piece in wanted["answer"]]
    else:
        found, expected = steady(answer.json()), steady(wanted["answer"])
    assert answer.status_code == wanted["status"]
    assert found == expected


async def test_cut(parts: Parts) -> None:
    """A stream whose model is killed ends in the example's error event."""
    example = EXAMPLES["chat-stream-cut"]
    seen: list[Any] = []
    async with listening(parts) as address, aiohttp.ClientSession() as session:
        async for event in stream(session, address, example["request"]["body"]):
            seen.append(event)
            if len(seen) == example["killed_after"]:
                os.kill((await parts.house.llama.endpoint()).child.pid, signal.SIGKILL)
    assert [steady(one) for one in seen[-1:]] == [steady(one) for one in example["answer"]]
