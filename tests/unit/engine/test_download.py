"""Downloading: nothing wrong is ever kept, nothing right is fetched twice, and each failure says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import model
from hybr_testing import until

if TYPE_CHECKING:
    from engine_desk import Bench, Desk

NEEDED = {"mlc-chat-config.json", "tensor-cache.json", "tokenizer.json", "model-software.wasm"}


def shards(count: int) -> set[str]:
    """Return the shards' names."""
    return {f"params_shard_{i}.bin" for i in range(count)}


def test_load_fetches_what_webllm_reads_once_and_then_nothing(bench: Bench, desk: Desk) -> None:
    """A first load fetches each needed file once, into WebLLM's caches; a second load asks the server for none."""
    entry = desk.add(model())
    loaded = bench.call("load", {"model": entry})
    assert loaded["model"] == "toy"
    assert loaded["profile"] == "software"
    assert sorted(desk.downloads()) == sorted(NEEDED | shards(3))
    assert bench.page.evaluate("bench.keys('webllm/config')") == ["mlc-chat-config.json"]
    assert bench.page.evaluate("bench.keys('webllm/wasm')") == ["model-software.wasm"]
    assert set(bench.page.evaluate("bench.keys('webllm/model')")) == {"tensor-cache.json", "tokenizer.json"} | shards(3)
    bench.call("unload")
    again = bench.call("load", {"model": entry})
    assert again["downloadedBytes"] == 0
    assert len(desk.downloads()) == len(NEEDED) + 3


def test_progress_goes_from_0_to_1_over_download_and_load_and_never_back(bench: Bench, desk: Desk) -> None:
    """Progress and bytes only grow, end at 1 and all bytes, and pass through both phases, though WebLLM counts to 1 twice."""
    entry = desk.add(model(shard_bytes=400_000, everyMs=20))
    desk.fault("params_shard_1.bin", "cut")
    bench.call("load", {"model": entry})
    events = bench.events()
    for name in ("progress", "loadedBytes"):
        values = [event[name] for event in events]
        assert values == sorted(values)
    total = sum(file["bytes"] for file in entry["files"] if file["path"] in NEEDED | shards(3))
    assert events[-1]["progress"] == 1
    assert events[-1]["loadedBytes"] == events[-1]["totalBytes"] == total
    assert [event["phase"] for event in events] == sorted(event["phase"] for event in events)
    assert {event["phase"] for event in events} == {"download", "load"}
    assert max(event["progress"] for event in events if event["phase"] == "download") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("short", "ends after 39900 of 40000 bytes"), ("long", "longer than the 40000 bytes"), ("flip", "its sha256 is")],
)
def test_a_wrong_file_is_refused_named_and_not_kept(bench: Bench, desk: Desk, kind: str, says: str) -> None:
    """A truncated, padded or altered shard is an IntegrityError naming it and the remedy; the next load fetches only the rest."""
    entry = desk.add(model())
    desk.fault("params_shard_1.bin", kind)
    failed = bench.call("load", {"model": entry})["failed"]
    assert failed["isError"]
    assert (failed["name"], failed["phase"]) == ("IntegrityError", "download")
    assert "params_shard_1.bin" in failed["message"]
    assert says in failed["message"]
    assert "hybr models build" in failed["message"]
    assert "params_shard_1.bin" not in bench.page.evaluate("bench.keys('webllm/model')")
    assert bench.call("cached")["models"] == []
    kept = {name for cache in ("config", "wasm", "model") for name in bench.page.evaluate(f"bench.keys('webllm/{cache}')")}
    desk.asked.clear()
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert set(desk.downloads()) == (NEEDED | shards(3)) - kept


def test_a_model_list_that_lies_about_a_hash_is_refused(bench: Bench, desk: Desk) -> None:
    """The list is the reference: a shard whose sha256 it states otherwise is refused, with both values told."""
    toy = model()
    toy.lies["params_shard_0.bin"] = {"sha256": "0" * 64}
    failed = bench.call("load", {"model": desk.add(toy)})["failed"]
    assert failed["name"] == "IntegrityError"
    assert failed["expected"] == "0" * 64
    assert failed["actual"] in failed["message"]


def test_a_passing_failure_of_the_network_is_waited_out(bench: Bench, desk: Desk) -> None:
    """A cut connection and a 503 are tried again; the person sees one download."""
    entry = desk.add(model())
    desk.fault("params_shard_0.bin", "cut", "503", "")
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert desk.downloads().count("params_shard_0.bin") == 3


def test_a_lasting_failure_of_the_network_ends_in_an_error_and_keeps_what_is_done(bench: Bench, desk: Desk) -> None:
    """After the last pause a NetworkError names the file and the tries; finished files stay."""
    entry = desk.add(model())
    desk.fault("params_shard_2.bin", "503*")
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["phase"], failed["tries"]) == ("NetworkError", "download", 6)
    assert "params_shard_2.bin" in failed["message"]
    assert shards(2) <= set(bench.page.evaluate("bench.keys('webllm/model')"))


def test_a_file_the_server_no_longer_has_is_an_error_at_once(bench: Bench, desk: Desk) -> None:
    """404 is not a network failure: one request, one clear error."""
    toy = model()
    entry = desk.add(toy)
    del toy.files["tokenizer.json"]
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["status"]) == ("ModelFileMissingError", 404)
    assert desk.downloads().count("tokenizer.json") == 1


@pytest.mark.parametrize("state", ["building", "missing", "failed"])
def test_a_model_that_is_not_built_is_refused_without_a_request(bench: Bench, desk: Desk, state: str) -> None:
    """An entry without artifacts says why it cannot be loaded and what to do."""
    entry = {**model().entry(), "state": state, "base": None}
    asked: list[str] = []  # by this page: the server may still be reading a request of the test before
    bench.page.context.on("request", lambda request: asked.append(request.url))
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["state"]) == ("ModelNotBuiltError", state)
    assert "building" in state or "hybr models build toy" in failed["message"]
    assert not [url for url in asked if "/resolve/main/" in url]
    bench.call("load", {"model": desk.add(model())})
    assert [url for url in asked if "/resolve/main/" in url], "requests of the worker are seen here"


def test_no_room_is_said_before_a_byte_is_fetched(bench: Bench, desk: Desk) -> None:
    """Where the browser says it grants less than the model needs, the error names both amounts and the remedy."""
    entry = desk.add(model(shard_bytes=300_000))
    bench.page.evaluate("bench.script({estimate: {quota: 300000, usage: 100000}})")
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["phase"]) == ("QuotaExceededError", "download")
    assert failed["neededBytes"] > 900_000
    assert failed["availableBytes"] == 200_000
    assert "needs 0.9 MB more, the browser grants 0.2 MB" in failed["message"]
    assert "Delete another model" in failed["message"]
    assert desk.downloads() == []


def test_a_browser_that_stores_no_more_is_an_error_and_what_is_stored_stays_whole(
    bench: Bench, desk: Desk, desk_server: tuple[Any, str]
) -> None:
    """Chromium's real quota, cut while downloading: bytes still needed are named; with room again only the rest is fetched."""
    entry = desk.add(model(shard_bytes=300_000))
    session = bench.page.context.new_cdp_session(bench.page)
    desk.fault("params_shard_2.bin", "stall")
    bench.start("load", "load", {"model": entry})
    keys = {"webllm/model": "params_shard_1.bin", "webllm/wasm": "model-software.wasm"}
    for cache, last in keys.items():
        until(lambda: last in bench.page.evaluate("(cache) => bench.keys(cache)", cache), timeout=60, what=f"{last} stored")  # noqa: B023
    session.send("Storage.overrideQuotaForOrigin", {"origin": desk_server[1], "quotaSize": 100_000})
    desk.release.set()
    failed = bench.end("load")["failed"]
    assert (failed["name"], failed["phase"], failed["file"]) == ("QuotaExceededError", "download", "params_shard_2.bin")
    assert failed["neededBytes"] == 300_000
    assert "needs 0.3 MB more" in failed["message"]
    assert "params_shard_2.bin" not in bench.page.evaluate("bench.keys('webllm/model')")
    session.send("Storage.overrideQuotaForOrigin", {"origin": desk_server[1], "quotaSize": 50_000_000})
    desk.asked.clear()
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert desk.downloads() == ["params_shard_2.bin"]


def test_cancelling_a_download_keeps_finished_files_and_the_next_load_goes_on(bench: Bench, desk: Desk) -> None:
    """`cancel-load` rejects the load with AbortError at once; a later load fetches only the rest."""
    entry = desk.add(model())
    desk.fault("params_shard_2.bin", "stall")
    bench.start("load", "load", {"model": entry})
    until(lambda: shards(2) <= set(bench.page.evaluate("bench.keys('webllm/model')")), timeout=30, what="two shards stored")
    assert bench.call("status")["state"] == "loading"
    assert bench.call("cancel-load") == {"cancelled": True}
    failed = bench.end("load")["failed"]
    assert (failed["name"], failed["phase"]) == ("AbortError", "download")
    assert bench.call("status")["state"] == "empty"
    assert bench.call("cancel-load") == {"cancelled": False}
    desk.asked.clear()
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert desk.downloads() == ["params_shard_2.bin"]


def test_a_signal_cancels_its_load(bench: Bench, desk: Desk) -> None:
    """An aborted signal given to `call` does what `cancel-load` does."""
    desk.fault("params_shard_0.bin", "stall")
    bench.start("load", "load", {"model": desk.add(model())})
    until(lambda: "params_shard_0.bin" in desk.downloads(), timeout=30, what="the shard asked for")
    bench.page.evaluate("bench.stop('load')")
    assert bench.end("load")["failed"]["name"] == "AbortError"


def test_a_newer_load_takes_the_place_of_the_older(bench: Bench, desk: Desk) -> None:
    """The person changed their mind: the first load ends as aborted, the second one's model is there."""
    desk.fault("params_shard_0.bin", "stall", "")
    bench.start("first", "load", {"model": desk.add(model("first"))})
    until(lambda: "params_shard_0.bin" in desk.downloads(), timeout=30, what="the shard asked for")
    second = bench.call("load", {"model": desk.add(model("second"))})
    assert bench.end("first")["failed"]["name"] == "AbortError"
    assert second["model"] == bench.call("status")["model"] == "second"


def test_a_spoiled_copy_in_the_browser_is_noticed_dropped_and_fetched_again(bench: Bench, desk: Desk) -> None:
    """A cached shard cut short on disk fails WebLLM obscurely; the person is told to load again, and that works."""
    entry = desk.add(model(shardBytes=40_000))
    bench.call("load", {"model": entry})
    bench.call("unload")
    assert bench.page.evaluate("bench.spoil('webllm/model', 'params_shard_1.bin', 'short', true)")
    failed = bench.call("load", {"model": entry})["failed"]
    assert (failed["name"], failed["phase"], failed["files"]) == ("IntegrityError", "load", ["params_shard_1.bin"])
    assert "load toy again" in failed["message"]
    desk.asked.clear()
    assert bench.call("load", {"model": entry})["model"] == "toy"
    assert desk.downloads() == ["params_shard_1.bin"]


def test_a_file_put_there_by_others_is_not_taken_for_ours(bench: Bench, desk: Desk) -> None:
    """A cache entry without our mark (WebLLM's own download, another version's) is fetched and checked anew."""
    entry = desk.add(model())
    bench.call("load", {"model": entry})
    bench.call("unload")
    bench.page.evaluate("bench.spoil('webllm/model', 'params_shard_1.bin', 'x'.repeat(40000), false)")
    desk.asked.clear()
    bench.call("load", {"model": entry})
    assert desk.downloads() == ["params_shard_1.bin"]


def test_cached_tells_whole_models_and_delete_frees_them(bench: Bench, desk: Desk) -> None:
    """`cached` lists what can be loaded without the server; `delete` frees its bytes and takes it off the list."""
    for name in ("one", "two"):
        bench.call("load", {"model": desk.add(model(name))})
    cached = {item["id"]: item for item in bench.call("cached")["models"]}
    assert set(cached) == {"one", "two"}
    assert bench.call("cached", {"ids": ["two", "three"]})["models"] == [cached["two"]]
    assert bench.call("delete", {"id": "one"}) == {"id": "one", "bytes": cached["one"]["bytes"]}
    assert [item["id"] for item in bench.call("cached")["models"]] == ["two"]
    assert bench.call("delete", {"id": "one"}) == {"id": "one", "bytes": 0}


def test_a_new_revision_replaces_the_old_ones_files(bench: Bench, desk: Desk) -> None:
    """A rebuilt model does not leave its former files behind in the person's storage."""
    bench.call("load", {"model": desk.add(model())})
    newer = model()
    newer.rev = "fedcba9876543210"
    assert bench.call("load", {"model": desk.add(newer)})["base"] == newer.base
    assert bench.page.evaluate("bench.keys('webllm/config')") == ["mlc-chat-config.json"]
    assert [item["base"] for item in bench.call("cached")["models"]] == [newer.base]
