"""The page's own gateway runtime against our server with providers behind it, and what the operator sees of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from fakes import anthropic, gemini, openai
from fakes.gateway import parts_of, remote_of
from fakes.wire import wired
from serving import asking, parts_in, question

from hybr.server import serve, upstreams
from hybr.server.config import Settings
from hybr.server.serve import assemble
from hybr.webapp.hybrid.types import Call, Options
from hybr.webapp.runtimes.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import httpx


@dataclass
class Answered:
    """An answer as the page's transport gives it."""

    answer: httpx.Response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.answer.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self.answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body."""
        async for piece in self.answer.aiter_raw():
            yield piece

    async def close(self) -> None:
        """Free it."""
        await self.answer.aclose()


@dataclass
class Direct:
    """The page's transport, straight into the application."""

    client: httpx.AsyncClient

    async def request(self, method: str, path: str, body: bytes | None = None) -> Answered:
        """Send."""
        request = self.client.build_request(method, path, content=body, headers={"content-type": "application/json"})
        return Answered(await self.client.send(request, stream=True))


@pytest.mark.parametrize(
    ("name", "fake", "model"),
    [("openai", openai, "gpt-5-mini"), ("anthropic", anthropic, "claude-haiku-4-5"), ("gemini", gemini, "gemini-flash-latest")],
)
async def test_a_person_asks_for_a_cloud_model(tmp_path: Path, name: str, fake: Any, model: str) -> None:
    """The page lists the provider's models, knows one by its id, and gets its answer, usage and tool calls."""
    async with wired(fake.answer) as wire:
        parts = parts_of(tmp_path, name, wire.address, fake.KEY)
        async with asking(parts) as client:
            await remote_of(parts).refresh()
            gateway = Gateway(Direct(client))
            assert await gateway.knows(f"{name}/{model}")
            assert await gateway.knows("smollm2-135m")
            assert gateway.models()[0]["id"] == f"{name}/{model}"
            said: list[str] = []
            asked = Call("r", ({"role": "user", "content": "Hi"},), Options(temperature=0), f"{name}/{model}")
            final = await gateway.chat(asked, said.append)
            tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
            called = await gateway.chat(Call("s", asked.messages, Options(tools=(tool,)), f"{name}/{model}"), [].append)
    assert "".join(said) == "Paris é😀"
    assert (final.model, final.finish_reason) == (f"{name}/{model}", "stop")
    assert final.usage is not None
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (9, 3)
    assert called.finish_reason == "tool_calls"
    assert [call["function"]["name"] for call in called.tool_calls] == ["weather", "time"]


async def test_without_a_key(tmp_path: Path) -> None:
    """With nothing configured the house is first and the only one, and the report says what each provider lacks."""
    told = upstreams.read({})
    parts = assemble(Settings(home=tmp_path / "h", data=tmp_path / "d", build=False, warm=False, auth="off", upstreams=told))
    async with asking(parts) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        report = {entry["name"]: entry for entry in (await client.get("/api/providers")).json()["data"]}
        asked = await client.post("/v1/chat/completions", json=question(model="openai/gpt-5-mini"))
    assert [entry["id"] for entry in listed] == ["smollm2-135m"]
    assert report["house"]["available"] is True
    assert report["openai"] == {
        "name": "openai",
        "kind": "openai",
        "available": False,
        "reason": "no key: set OPENAI_API_KEY or OPENAI_API_KEY_FILE",
        "models": 0,
    }
    assert (asked.status_code, asked.json()["error"]["code"]) == (404, "provider_not_configured")
    assert "OPENAI_API_KEY" in asked.json()["error"]["message"]


def test_the_command_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hybr serve` takes keys and the file from its environment; tests and others who make parts take nothing from it."""
    (tmp_path / "up.toml").write_text('default = "box/m"\n[upstreams.box]\nbase_url = "http://127.0.0.1:9/v1"\n')
    monkeypatch.setenv("GEMINI_API_KEY", gemini.KEY)
    monkeypatch.setenv("HYBR_UPSTREAMS", str(tmp_path / "up.toml"))
    told: list[Settings] = []
    monkeypatch.setattr(serve, "listen", lambda settings: told.append(settings) or 0)
    assert serve.run(argparse.Namespace(host="127.0.0.1", port=0, no_build=True)) == 0
    assert {one.name for one in told[0].upstreams.configured} >= {"gemini", "box"}
    assert gemini.KEY not in repr(told[0])
    assert assemble(told[0]).relay.preferred == "box/m"
    assert parts_in(tmp_path).remotes == []
