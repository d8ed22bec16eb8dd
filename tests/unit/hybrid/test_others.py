"""Models of other hosts: what is listed, whom that would ask, and that nobody is asked who was not allowed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from lab.clock import virtual
from lab.desk import YES, Desk, MemoryStorage, entry
from lab.engine import Fail

from hybr.webapp.hybrid.errors import LocalError, OptionError
from hybr.webapp.hybrid.local import LocalLLM
from hybr.webapp.runtimes import others
from hybr.webapp.runtimes.catalogue import Catalogue
from hybr.webapp.runtimes.others import Others
from hybr.webapp.runtimes.webllm import WebLLM
from hybr.webapp.state.preferences import Preferences

LIST = "/assets/0/data/webllm.json"
WEB = {
    "hosts": {"https://far.example": ["https://*.far.example"], "https://libs.example": []},
    "models": [
        {
            "id": "Llama-3.2-1B-Instruct-q4f32_1-MLC",
            "model": "https://far.example/someone/Llama",
            "library": "https://libs.example/llama.wasm",
            "vram_bytes": 1_128_000_000,
            "overrides": {"context_window_size": 4096},
        },
        {"id": "Phi-1_5-q0f16-MLC", "model": "https://far.example/p", "library": "https://far.example/p.wasm", "vision": True},
    ],
}
LLAMA = WEB["models"][0]["id"]  # type: ignore[index]
HOSTS = ["https://far.example", "https://libs.example", "https://*.far.example"]
ADDRESS = "https://own.example/models/mine"
FOUND = {"manifest": True, "bytes": 5000, "context": 512, "quantisation": "q4f32_1", "family": "llama", "features": []}


class Elsewhere(Desk):
    """A desk with the list in its bundle, and a server that keeps preferences."""

    def __init__(self, *, closed: bool = False, storage: MemoryStorage | None = None) -> None:
        super().__init__(storage=storage)
        self.upstream.files[LIST] = WEB
        self.upstream.files["/api/preferences"] = {"version": 0, "preferences": {}}
        self.preferences = Preferences(self.storage, self.upstream, delay_s=0.01)
        self.others = Others(self.upstream, self.preferences, LIST, closed=closed)
        self.local = LocalLLM(WebLLM(self.engine), Catalogue(self.upstream, self.others), self.events, self.preferences)
        self.local.preflight(YES)


def failed(result: Any) -> dict[str, Any]:
    """The error of an `init` that failed."""
    assert result["success"] is False
    return dict(result["error"])


@virtual
async def test_the_list_says_what_and_where() -> None:
    """Read once, when asked for; each with family, quantisation, window, an estimate of its size, and all hosts it would ask."""
    desk = Elsewhere()
    assert desk.local.get_available_models() == []
    llama, phi = await desk.local.get_offered_models()
    assert (llama["source"], llama["family"], llama["quantisation"], llama["context"]) == ("web", "Llama", "q4f32_1", 4096)
    assert llama["hosts"] == HOSTS
    assert (llama["estimated"], round(llama["bytes"] / 1e6)) == (True, 560)
    assert llama["name"] == "Llama-3.2-1B-Instruct-q4f32_1"
    assert (phi["family"], phi["context"], phi["fits"]["fits"]) == ("Phi", 4096, False)  # f16, and this adapter has none
    assert (phi["vision"], "vision" in llama, "tools" in llama) == (True, False, False)
    await desk.local.get_offered_models()
    assert desk.upstream.asked.count(f"GET {LIST}") == 1


@virtual
async def test_nobody_is_asked_who_was_not_allowed() -> None:
    """A load says which hosts it needs, and asks none; a script that names such a model is told the same."""
    desk = Elsewhere()
    error = failed(await desk.local.init(LLAMA))
    assert error["code"] == "host_not_allowed"
    assert all(host in error["message"] for host in HOSTS)
    assert "load" not in desk.engine.ops


@virtual
async def test_allowed_loaded_and_found_again_without_the_list() -> None:
    """The server is told before the engine begins anew; what was loaded is remembered here, and loads without the list."""
    desk = Elsewhere()
    await desk.local.get_offered_models()
    await desk.local.allow(HOSTS)
    assert desk.others.allowed == HOSTS
    assert desk.engine.restarts == 1
    assert desk.upstream.asked[-1] == "PUT /api/preferences"
    assert await desk.local.init(LLAMA) is True
    assert [one["id"] for one in desk.local.get_available_models()] == [LLAMA]
    later = Elsewhere(storage=desk.storage)
    later.engine.cache = desk.engine.cache
    later.upstream.files[LIST] = None
    assert await later.local.resume() is True
    assert later.local.model == LLAMA
    await later.local.delete(LLAMA)
    assert later.local.get_available_models() == []
    await desk.preferences.flush()
    await later.preferences.flush()


@virtual
async def test_one_that_gave_way_is_forgotten_as_a_deleted_one_is() -> None:
    """A model of the list that is deleted to make room for another is no longer among those that were taken."""
    desk = Elsewhere()
    await desk.local.get_offered_models()
    await desk.local.allow(HOSTS)
    assert await desk.local.init(LLAMA) is True
    desk.engine.loads.append([Fail("QuotaExceededError", "Quota exceeded.", "download")])
    assert await desk.local.init("tiny") is True
    (told,) = desk.of("local-llm:evicted")
    assert (told["removed"], desk.engine.cache) == ([LLAMA], {"tiny"})
    assert [one["id"] for one in desk.local.get_available_models()] == ["tiny", "smollm2-135m"]
    assert desk.others.kept() == []
    await desk.preferences.flush()


@virtual
async def test_allowing_what_is_allowed_leaves_the_engine_alone() -> None:
    """A second consent to the same hosts unloads nothing; taking one back begins the engine anew."""
    desk = Elsewhere()
    await desk.local.allow(HOSTS)
    assert await desk.local.init("tiny") is True
    await desk.local.allow(HOSTS[:1])
    assert (desk.engine.restarts, desk.local.model) == (1, "tiny")
    await desk.local.allow(HOSTS[:1], instead=True)
    assert (desk.engine.restarts, desk.local.model) == (2, None)
    assert desk.of("local-llm:unloaded")[-1] == {"model": "tiny", "reason": "hosts"}


@virtual
async def test_a_server_that_was_not_told_allows_nobody() -> None:
    """Without the server's word the browser would block the host: said at once, nothing is changed, the engine lives on."""
    desk = Elsewhere()
    desk.upstream.down = True
    with pytest.raises(LocalError, match="could not be told") as told:
        await desk.local.allow(HOSTS)
    assert told.value.code == "not_stored"
    assert (desk.others.allowed, desk.engine.restarts) == ([], 0)
    await desk.preferences.flush()


@virtual
async def test_the_local_only_document_reaches_nobody() -> None:
    """There, what is not in the browser does not fit, nothing can be added or allowed; what is in the browser still loads."""
    desk = Elsewhere(closed=True)
    llama, _ = await desk.local.get_offered_models()
    assert "cannot reach" in llama["fits"]["reason"]
    with pytest.raises(LocalError, match="reaches no other host"):
        await desk.local.allow(HOSTS)
    with pytest.raises(LocalError, match="reaches no other host"):
        await desk.local.add("mine", ADDRESS)
    desk.engine.cache.add(LLAMA)
    await desk.local.refresh()
    assert await desk.local.init(LLAMA) is True
    await desk.preferences.flush()


@virtual
async def test_a_model_is_added_by_its_address_and_removed() -> None:
    """The engine looks first; the entry has what it found, is kept for later visits, and goes with its files."""
    desk = Elsewhere()
    desk.engine.shelf[ADDRESS] = FOUND
    added = await desk.local.add("mine", f" {ADDRESS} ")
    assert (added["base"], added["hosts"], added["remote"]["manifest"]) == (f"{ADDRESS}/", ["https://own.example"], True)
    again = Elsewhere(storage=desk.storage)
    [mine] = again.local.get_available_models()
    assert (mine["id"], mine["source"], mine["bytes"], mine["context"]) == ("mine", "own", 5000, 512)
    again.engine.cache.add("mine")
    assert await again.local.remove("mine") is True
    assert (again.local.get_available_models(), again.engine.cache) == ([], set())
    assert await again.local.remove("mine") is False


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (("", ADDRESS), "name"),
        (("-x", ADDRESS), "name"),
        (("tiny", ADDRESS), "name"),
        (("mine", "http://own.example/m"), "address"),
        (("mine", "own.example/m"), "address"),
        (("mine", "https://user:pass@own.example/m"), "address"),
        (("mine", "https://own.example/m?token=1"), "address"),
        (("mine", "https://own.example:port/m"), "address"),
        (("mine", 7), "address"),
        (("mine", ADDRESS, "ftp://own.example/lib.wasm"), "library"),
    ],
)
async def test_a_wrong_address_is_refused_by_its_field(given: tuple[Any, ...], field: str) -> None:
    """Before anybody is asked, in a sentence that says what would be right."""
    desk = Elsewhere()
    await desk.local.refresh()
    with pytest.raises(OptionError) as told:
        await desk.local.add(*given)
    assert told.value.field == field
    assert "inspect" not in desk.engine.ops


async def test_an_address_without_a_model_is_not_kept() -> None:
    """The engine's word is told, and the list stays as it was."""
    desk = Elsewhere()
    with pytest.raises(LocalError) as told:
        await desk.local.add("mine", ADDRESS)
    assert told.value.code == "no_such_model"
    assert desk.local.get_available_models() == []


@pytest.mark.parametrize("stored", ["nonsense", [7, {}, {"id": "x"}, None], {"a": 1}])
def test_damaged_lists_in_the_browser_are_left_out(stored: Any) -> None:
    """What is no entry is none; hosts that are no list allow nobody."""
    storage = MemoryStorage({"preferences": json.dumps({"own_models": stored, "model_hosts": "https://*"})})
    desk = Elsewhere(storage=storage)
    assert (desk.others.kept(), desk.others.allowed) == ([], [])


@pytest.mark.parametrize(
    ("name", "quantisation", "megabytes", "family"),
    [
        ("Llama-3.2-1B-Instruct-q4f32_1-MLC", "q4f32_1", 560, "Llama"),
        ("SmolLM2-135M-Instruct-q0f32-MLC", "q0f32", 540, "SmolLM2"),
        ("Qwen2.5-0.5B-Instruct-q0f16-MLC", "q0f16", 1000, "Qwen2.5"),
        ("Llama-3.1-70B-Instruct-q3f16_1-MLC", "q3f16_1", 29400, "Llama"),
        ("phi-2-q4f16_1-MLC", "q4f16_1", 0, "Phi"),
        ("stablelm-2-zephyr-1_6b-q4f16_1-MLC", "q4f16_1", 896, "StableLM"),
        ("gemma-4-E2B-it-q4f16_1-MLC", "q4f16_1", 1120, "Gemma"),
        ("Hermes-2-Pro-Llama-3-8B-q4f16_1-MLC", "q4f16_1", 4480, "Hermes"),
        ("", "", 0, ""),
    ],
)
def test_sizes_and_families_by_name(name: str, quantisation: str, megabytes: int, family: str) -> None:
    """From the parameters and bits that a name states; nothing where it states none."""
    assert round(others.weight(name, quantisation) / 1e6) == megabytes
    assert others.family(name) == family


@virtual
async def test_a_pause_keeps_and_a_cancel_drops() -> None:
    """Paused, what has come stays and is told; cancelled, it goes, unless the model was whole before."""
    desk = Elsewhere()
    desk.engine.begun["tiny"] = (400, 1000)
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert await desk.local.pause() is True
    await load
    tiny = next(one for one in desk.local.get_available_models() if one["id"] == "tiny")
    assert (tiny["begun"], desk.local.get_status()["state"]) == ({"have": 400, "bytes": 1000}, "unloaded")
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    assert await desk.local.discard() is True
    await load
    assert desk.engine.begun == {}
    assert await desk.local.init("tiny") is True
    await desk.local.unload()
    load = asyncio.create_task(desk.local.init("tiny"))
    await asyncio.sleep(0.1)
    await desk.local.discard()
    await load
    assert desk.engine.cache == {"tiny"}


@virtual
async def test_a_check_repairs_and_tells() -> None:
    """Its progress is told and its end; what was damaged is fetched anew; a model that is not here cannot be checked."""
    desk = Elsewhere()
    assert await desk.local.init("tiny") is True
    desk.engine.damaged.add("tiny")
    assert await desk.local.verify("tiny") == {"files": 7, "damaged": ["params_shard_0.bin"], "repaired": True}
    assert [detail["progress"] for detail in desk.of("local-llm:checking")] == [0.0, 0.5, None]
    assert (await desk.local.verify("tiny"))["damaged"] == []
    with pytest.raises(LocalError) as told:
        await desk.local.verify("smollm2-135m")
    assert told.value.code == "not_cached"
    await desk.preferences.flush()


def test_of_one_id_the_servers_model_counts() -> None:
    """A model that the server comes to have under the name of an added one takes its place."""
    desk = Elsewhere()
    desk.others.keep({**others.added("tiny", FOUND, ADDRESS, [])})
    catalogue = Catalogue(desk.upstream, desk.others)
    catalogue.served = [entry("tiny")]
    assert [one.get("source") for one in catalogue.entries] == [None]
    assert "source" not in (catalogue.find("tiny") or {})


@virtual
async def test_whom_an_address_needs_is_told_before_it_is_asked() -> None:
    """The address's own hosts, and those that the list knows it to send a browser on to; none that is allowed already."""
    desk = Elsewhere()
    library = "https://own.example/lib.wasm"
    needed = ["https://far.example", "https://own.example", "https://*.far.example"]
    assert await desk.local.unasked("mine", "https://far.example/x", library) == needed
    await desk.local.allow(needed[:2])
    assert await desk.local.unasked("mine", "https://far.example/x", library) == needed[2:]
    with pytest.raises(OptionError):
        await desk.local.unasked("mine", "nowhere")
    assert "inspect" not in desk.engine.ops
