"""Models of other hosts, what is begun and not whole, and the check of what is kept: on the real engine worker's modules."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import Model, model
from hybr_testing import until

if TYPE_CHECKING:
    from engine_desk import Bench, Desk


def published(name: str = "far", **config: Any) -> Model:
    """A model as WebLLM's publishers lay it out: a configuration, an index with sizes, and no list of sums."""
    made = model(name)
    told = {
        "tokenizer_files": ["tokenizer.json"],
        "context_window_size": 512,
        "vocab_size": 9,
        "quantization": "q4f32_1",
        "script": {},
    }
    made.files["mlc-chat-config.json"] = json.dumps({**told, **config}).encode()
    shards = [{"dataPath": path, "nbytes": len(body)} for path, body in made.files.items() if path.startswith("params")]
    made.files["tensor-cache.json"] = json.dumps({"records": shards}).encode()
    return made


def address(bench: Bench, item: Model) -> str:
    """Where the model lies, as a person would give it."""
    return f"{bench.page.evaluate('location.origin')}{item.base}"


def entry(bench: Bench, item: Model, *, manifest: bool = False) -> dict[str, Any]:
    """The page's entry for it."""
    at = address(bench, item)
    return {
        "id": "far",
        "state": "built",
        "base": at,
        "remote": {"library": None if manifest else f"{at}resolve/main/model.wasm", "manifest": manifest},
        "libraries": {},
        "files": [],
        "quantisation": "q4f32_1",
    }


def test_a_published_model_is_loaded_and_then_asks_nobody(bench: Bench, desk: Desk) -> None:
    """Its files follow from its configuration and index; once whole it loads again without a request, library included."""
    item = published()
    desk.add(item)
    given = entry(bench, item)
    loaded = bench.call("load", {"model": given})
    assert loaded["model"] == "far"
    events = bench.events()
    assert (
        events[-1]["loadedBytes"]
        == events[-1]["totalBytes"]
        == sum(
            len(item.files[path])
            for path in ["mlc-chat-config.json", "tensor-cache.json", "tokenizer.json", "model.wasm", *_shards(item)]
        )
    )
    bench.call("unload")
    desk.asked.clear()
    assert bench.call("load", {"model": given})["downloadedBytes"] == 0
    assert desk.asked == []
    assert [one["id"] for one in bench.call("cached")["models"]] == ["far"]


def _shards(item: Model) -> list[str]:
    return [path for path in item.files if path.startswith("params")]


def test_deleting_takes_all_of_it_but_not_what_another_uses(bench: Bench, desk: Desk) -> None:
    """Two models with one library: the first's deletion leaves the library to the second, the second's takes it."""
    first, second = published("one"), published("two")
    desk.add(first)
    desk.add(second)
    library = f"{address(bench, first)}resolve/main/model.wasm"
    for name, item in (("one", first), ("two", second)):
        given = {**entry(bench, item), "id": name, "remote": {"library": library, "manifest": False}}
        assert bench.call("load", {"model": given})["model"] == name
        bench.call("unload")
    assert bench.call("delete", {"id": "one"})["bytes"] > 0
    assert bench.page.evaluate("bench.keys('webllm/wasm')") == ["model.wasm"]
    assert [one["id"] for one in bench.call("cached")["models"]] == ["two"]
    bench.call("delete", {"id": "two"})
    assert bench.page.evaluate("bench.keys('webllm/wasm')") == []
    assert bench.page.evaluate("bench.keys('webllm/model')") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mlc-chat-config.json": b"<html>"}, "no JSON"),
        ({"mlc-chat-config.json": b'{"model_type": "bert"}'}, "not the configuration of a chat model"),
        ({"tensor-cache.json": b'{"records": []}'}, "lists no weights"),
        ({"tensor-cache.json": b'{"records": [{"dataPath": "../../up.bin", "nbytes": 4}]}'}, "a file that is none"),
        ({"tensor-cache.json": b'{"records": [{"dataPath": "a.bin", "nbytes": -4}]}'}, "a file that is none"),
        ({"model.wasm": b"<html>not found</html>"}, "no WebAssembly library"),
        ({"mlc-chat-config.json": None}, "answered 404"),
    ],
)
def test_an_address_without_a_model_says_what_is_wrong(
    bench: Bench, desk: Desk, change: dict[str, bytes | None], says: str
) -> None:
    """Before a byte of weights is asked for: the file at fault is named, and nothing is kept."""
    item = published()
    for path, body in change.items():
        if body is None:
            del item.files[path]
        else:
            item.files[path] = body
    desk.add(item)
    at = address(bench, item)
    failed = bench.call("inspect", {"model": at, "library": f"{at}resolve/main/model.wasm"})["failed"]
    assert (failed["name"], failed["phase"]) == ("AddressError", "validate")
    assert says in failed["message"]
    assert bench.page.evaluate("bench.keys('webllm/model')") == []


def test_a_look_tells_what_it_is(bench: Bench, desk: Desk) -> None:
    """Window, quantisation and size; without a library of its own, one must be given."""
    item = published()
    desk.add(item)
    at = address(bench, item)
    found = bench.call("inspect", {"model": at, "library": f"{at}resolve/main/model.wasm"})
    assert (found["context"], found["quantisation"], found["manifest"]) == (512, "q4f32_1", False)
    assert found["bytes"] == sum(len(item.files[path]) for path in _shards(item))
    assert not [path for path in desk.downloads() if path.startswith("params")]
    assert bench.call("inspect", {"model": at})["failed"]["field"] == "library"


def test_a_model_of_hybrs_own_brings_its_sums(bench: Bench, desk: Desk) -> None:
    """A manifest is believed for the list, and then enforced: a shard that differs from its sum is refused and not kept."""
    item = published()
    listed = [
        {"path": path, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        for path, body in item.files.items()
        if path != "manifest.json"
    ]
    told = {"files": listed, "name": "Far away", "family": "llama", "quantisation": "q4f32_1", "vram_bytes": 7, "features": []}
    item.files["manifest.json"] = json.dumps(told).encode()
    desk.add(item)
    found = bench.call("inspect", {"model": address(bench, item)})
    assert (found["name"], found["manifest"], found["library"], found["vramBytes"]) == ("Far away", True, None, 7)
    desk.fault("params_shard_1.bin", "flip")
    failed = bench.call("load", {"model": entry(bench, item, manifest=True)})["failed"]
    assert failed["name"] == "IntegrityError"
    assert bench.call("load", {"model": entry(bench, item, manifest=True)})["model"] == "far"


def test_what_was_begun_is_told_and_gone_on_with(bench: Bench, desk: Desk) -> None:
    """A stopped download is listed with what is here of it, also for a page that comes later; a finished one is not listed."""
    given = desk.add(model())
    desk.fault("params_shard_2.bin", "stall")
    bench.start("first", "load", {"model": given})
    until(lambda: any(path == "params_shard_2.bin" for path in desk.downloads()), timeout=30, what="the last shard is asked for")
    until(lambda: len(bench.page.evaluate("bench.keys('webllm/model')")) >= 4, timeout=30, what="the others are here")
    bench.call("cancel-load")
    bench.end("first")
    desk.release.set()
    [begun] = bench.call("cached", {"runtime": "webgpu"})["partial"]
    assert begun["id"] == "toy"
    assert 80_000 < begun["have"] < begun["bytes"]
    assert bench.call("cached", {"runtime": "wasm"})["partial"] == []
    assert bench.call("cached")["models"] == []
    bench.call("load", {"model": given})
    assert bench.call("cached")["partial"] == []


def test_a_check_finds_damage_and_repairs_it(bench: Bench, desk: Desk) -> None:
    """Every file is summed anew: a changed and a missing one are named; with the entry they are fetched again, and only they."""
    given = desk.add(model())
    assert bench.call("verify", {"id": "toy"})["failed"]["name"] == "ModelNotCachedError"
    bench.call("load", {"model": given})
    assert bench.call("verify", {"id": "toy"}) == {"files": 7, "damaged": [], "repaired": False}
    assert [event["step"] for event in bench.events()] == ["checking"] * 7
    bench.page.evaluate(
        """async () => {
             const cache = await caches.open('webllm/model');
             const [one, two] = (await cache.keys()).filter(({url}) => url.includes('shard'));
             const headers = (await cache.match(one)).headers;
             await cache.put(one, new Response('x'.repeat(40000), {headers}));
             await cache.delete(two);
           }"""
    )
    before = len(desk.downloads())
    told = bench.call("verify", {"id": "toy", "model": given})
    assert (sorted(told["damaged"]), told["repaired"]) == (["params_shard_0.bin", "params_shard_1.bin"], True)
    assert sorted(desk.downloads()[before:]) == ["params_shard_0.bin", "params_shard_1.bin"]
    assert bench.call("verify", {"id": "toy"})["damaged"] == []
