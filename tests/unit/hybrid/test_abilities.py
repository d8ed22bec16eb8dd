"""Images, tools and schemas go to the side that can, and are refused by type where none can; several upstreams are scored."""

from __future__ import annotations

from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import ASK, Desk, entry

from hybr.webapp.hybrid.auto import AutoConfig, Side, Wants, among
from hybr.webapp.hybrid.errors import UnsupportedError

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]
TOOL = {"tools": [{"type": "function", "function": {"name": "f"}}]}
SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}}
CASES: list[tuple[str, Any, dict[str, Any]]] = [("images", IMAGE, {}), ("tools", ASK, TOOL), ("schema", ASK, SCHEMA)]


def entry_with(what: str, *, able: bool) -> dict[str, Any]:
    """A local model that can, or cannot, do just that."""
    return entry("tiny", **{"vision" if what == "images" else what: able})


async def desk_with(what: str, *, local: bool, cloud: bool | None) -> Desk:
    """A desk of two models."""
    desk = Desk(models=[entry_with(what, able=local)])
    able = {} if cloud is None else {"capabilities": {what: cloud}}
    desk.upstream.files["/v1/models"] = {"data": [{"id": "m", "owned_by": "box", **able}]}
    await desk.gateway.check()
    return await desk.ready()


@pytest.mark.parametrize(("what", "ask", "options"), CASES)
def test_d21_they_go_to_both_sides_where_the_model_can(what: str, ask: Any, options: dict[str, Any]) -> None:
    """D21: unchanged to the local model, and unchanged to the cloud."""

    @virtual
    async def check() -> None:
        desk = await desk_with(what, local=True, cloud=True)
        assert (await desk.hybrid.complete(ask, options)).provider == "local"
        await desk.hybrid.complete_cloud(ask, options)
        assert desk.engine.chats[0]["messages"] == desk.upstream.chats[0]["messages"] == ask
        for name, value in options.items():
            assert desk.engine.chats[0]["options"][name] == desk.upstream.chats[0][name] == value

    check()


@pytest.mark.parametrize("cloud", [True, None])
@pytest.mark.parametrize(("what", "ask", "options"), CASES)
def test_d21_the_other_side_where_the_local_model_cannot(
    what: str, ask: Any, options: dict[str, Any], cloud: bool | None
) -> None:
    """D21: the local model is not asked, the cloud is, and the fallback says what was lacking; a closed mode refuses by type."""

    @virtual
    async def check() -> None:
        desk = await desk_with(what, local=False, cloud=cloud)
        done = await desk.hybrid.complete(ask, options)
        assert (done.provider, desk.engine.chats) == ("cloud", [])
        assert done.fallback is not None
        assert (done.fallback["error"]["code"], done.fallback["error"]["name"]) == ("unsupported", "UnsupportedError")
        for closed in ({"private": True}, {"egress": "never"}):
            with pytest.raises(UnsupportedError, match=r"tiny cannot .* These could: m") as error:
                await desk.hybrid.complete(ask, {**options, **closed})
            assert (error.value.what, error.value.to_dict()["what"]) == (what, what)
        with pytest.raises(UnsupportedError):
            await desk.hybrid.complete_local(ask, options)
        assert len(desk.upstream.chats) == 1
        assert desk.hybrid.get_status()["breaker"]["local"] == "closed"

    check()


@pytest.mark.parametrize(("what", "ask", "options"), CASES)
def test_d21_a_typed_refusal_where_nobody_can(what: str, ask: Any, options: dict[str, Any]) -> None:
    """Neither can: nobody is asked, and the refusal names what and whom; a cloud that cannot leaves it to the local one."""

    @virtual
    async def check() -> None:
        desk = await desk_with(what, local=False, cloud=False)
        with pytest.raises(UnsupportedError, match=r"tiny and .* cannot .* Leave it out"):
            await desk.hybrid.complete(ask, options)
        with pytest.raises(UnsupportedError):
            await desk.hybrid.complete_cloud(ask, options)
        assert (desk.engine.chats, desk.upstream.chats) == ([], [])
        desk = await desk_with(what, local=True, cloud=False)
        desk.hybrid.set_mode("cloud")
        assert (await desk.hybrid.complete(ask, options)).provider == "local"

    check()


@virtual
async def test_tool_results_need_a_model_that_knows_tools() -> None:
    """A conversation with tool calls in it wants tools too; tools that may not be used want nothing."""
    desk = await desk_with("tools", local=False, cloud=True)
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    told = [*ASK, call, {"role": "tool", "tool_call_id": "1", "content": "3"}]
    assert (await desk.hybrid.complete(told)).provider == "cloud"
    assert (await desk.hybrid.complete(ASK, {**TOOL, "tool_choice": "none"})).provider == "local"


@virtual
async def test_the_default_model_is_passed_over_for_one_that_can() -> None:
    """Of several models of the cloud the first that can is asked where the default cannot; models that make vectors never."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = {
        "data": [
            {"id": "vectors", "output_modalities": ["embedding"]},
            {"id": "plain", "context_length": 1000, "capabilities": {"images": False}},
            {"id": "sees", "context_length": 9000, "capabilities": {"images": True}},
        ]
    }
    await desk.gateway.check()
    for ask, model in [(ASK, "plain"), (IMAGE, "sees"), ([{"role": "user", "content": "word " * 2000}], "sees")]:
        await desk.hybrid.complete(ask)
        assert desk.upstream.chats[-1]["model"] == model
    desk.preferences.set("cloud_model", "sees")
    await desk.hybrid.complete(ASK)
    assert desk.upstream.chats[-1]["model"] == "sees"


CHEAP = Side("cheap", seconds=4.0, cost=0.0, owner="a", images=False)
GOOD = Side("good", seconds=2.0, cost=0.05, owner="b", images=True)
TWIN = Side("twin", seconds=2.0, cost=0.05, owner="c", images=True, context=100)


@pytest.mark.parametrize(
    ("wants", "config", "model"),
    [
        (Wants(), {"weights": {"cost": 1, "speed": 0, "quality": 0}}, "cheap"),
        (Wants(), {"weights": {"cost": 0, "speed": 1, "quality": 0}}, "good"),
        (
            Wants(),
            {"weights": {"cost": 0, "speed": 0, "quality": 1}, "quality": {"cheap": 0.9, "good": 0.2, "twin": 0.2}},
            "cheap",
        ),
        (Wants(images=True), {"weights": {"cost": 1}}, "good"),
        (Wants(images=True), {"weights": {"cost": 1}, "upstreams": ("c",)}, "twin"),
        (Wants(images=True), {"weights": {"cost": 1}, "upstreams": ("x", "twin", "good")}, "twin"),
        (Wants(tokens=200, images=True), {"weights": {"cost": 1}, "upstreams": ("c",)}, "good"),
    ],
)
def test_among_several_upstreams(wants: Wants, config: dict[str, Any], model: str) -> None:
    """Quality, price, speed, window and modality by the score; the person's order of upstreams among equals."""
    side = among([CHEAP, GOOD, TWIN], wants, AutoConfig(**config))
    assert side is not None
    assert side.model == model


@virtual
async def test_auto_mode_chooses_among_upstreams() -> None:
    """The gateway's list and prices reach the choice, and the chosen model is the one that is asked."""
    desk = Desk()
    desk.upstream.files["/v1/models"] = {"data": [{"id": "dear", "owned_by": "a"}, {"id": "cheap", "owned_by": "b"}]}
    models = {"a/dear": {"input": 30, "output": 60}, "b/cheap": {"input": 0.1, "output": 0.2}}
    desk.upstream.files["/api/prices"] = {"currency": "USD", "models": models}
    await desk.gateway.check()
    desk.hybrid.set_mode("auto")
    desk.hybrid.set_auto_switch_config({"weights": {"cost": 5}})
    await desk.hybrid.complete(ASK)
    desk.hybrid.set_auto_switch_config({"weights": {"cost": 0}, "quality": {"dear": 0.99}})
    await desk.hybrid.complete(ASK)
    assert [chat.get("model", "dear") for chat in desk.upstream.chats] == ["cheap", "dear"]
    assert among([], Wants(), AutoConfig()) is None
