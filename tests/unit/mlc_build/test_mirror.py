"""Mirroring a catalogue model from an imitation of its publisher, with everything that goes wrong on the way."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import model_hub

from hybr.mlc_build import manifest, mirror, share, store
from hybr.mlc_build.download import TRIES, Line
from hybr.mlc_build.errors import Busy, DiskFull, SourceError, UnknownModel
from hybr.mlc_build.mirror import Remote
from hybr.server.models import Models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from killed import Killer
    from tests.support.model_hub import Handler, Hub

ID = "tiny-q4f16_1-mlc"
SHARD = "params_shard_0.bin"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The publisher."""
    with model_hub.serving() as hub:
        yield hub


class Waits:
    """Stands for time.sleep: remembers how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Wait not."""
        self.seconds.append(seconds)


def fetch(hub: Hub, waits: Waits | None = None, stall: float = 10) -> Path:
    """Mirror the hub's model."""
    return mirror.mirror(Remote(ID, hub.record()), Line(waits or Waits(), stall), StringIO())


def whole(hub: Hub, folder: Path) -> None:
    """Assert that the shelf has the publisher's bytes, and that they are the manifest's."""
    found = store.manifest(ID)
    manifest.verify(folder, found)
    for name in (SHARD, "params_shard_1.bin", "tokenizer.json", "model.wasm", "tensor-cache.json"):
        assert (folder / name).read_bytes() == hub.files[hub.path(name)]


def ranges(hub: Hub, name: str) -> list[str | None]:
    """Return the Range headers of the requests for a file."""
    return [span for path, span in hub.asked if path == hub.path(name)]


def test_a_model_comes_whole(home: Path, hub: Hub) -> None:
    """Files, sums, licence, origin, features and the catalogue's overrides are on the shelf, and in the page's index."""
    folder = fetch(hub)
    whole(hub, folder)
    found = store.manifest(ID)
    assert json.loads((folder / "mlc-chat-config.json").read_bytes())["context_window_size"] == 1024
    assert found["licence"] == "Apache-2.0"
    assert found["origin"] == hub.record().model
    assert found["features"] == ["shader-f16"]
    assert found["limits"]["maxBufferSize"] == len(model_hub.SHARDS[0])
    (entry,) = Models(home / "models", list).entries()
    assert (entry["id"], entry["state"], entry["context"], entry["libraries"]) == (ID, "built", 1024, {"gpu": "model.wasm"})
    assert not list((home / "mirrors").iterdir())


@pytest.mark.parametrize(("told", "kind"), [({"kind": "embedding"}, 1), ({"vision": True}, 2), ({}, 0)])
def test_what_it_is_for_stays_known(home: Path, hub: Hub, told: dict[str, Any], kind: int) -> None:
    """A model of vectors is none to chat with, and one that sees may be shown pictures, on our shelf as in WebLLM's list."""
    mirror.mirror(Remote(ID, replace(hub.record(), **told)), Line(), StringIO())
    models = Models(home / "models", list)
    (entry,) = models.entries()
    assert entry["kind"] == told.get("kind", "chat")
    assert entry.get("vision") == told.get("vision")
    assert share.records(models, "http://x.invalid")[0]["model_type"] == kind


@pytest.mark.models
def test_the_publishers_shaders_are_validated(home: Path, hub: Hub, tiny: Path) -> None:
    """The manifest says what accepted them and what they take; a library that no page could load is refused by the shader."""
    library = (tiny / "model.wasm").read_bytes()
    hub.files[hub.path("model.wasm")] = library
    fetch(hub)
    found = store.manifest(ID)
    told = json.loads((tiny / "manifest.json").read_bytes())["shaders"]["model.wasm"]
    assert found["shaders"] == {"model.wasm": told}
    at = library.rindex(b"workgroup_id")
    hub.files[hub.path("model.wasm")] = library[:at] + b"workgroup_ix" + library[at + 12 :]
    store.remove(ID)
    with pytest.raises(SourceError, match=r"cannot be loaded by any page: the shader \w+ is not valid WebGPU"):
        fetch(hub)
    hub.files[hub.path("model.wasm")] = library.replace(b"// Function:", b"// Funktion:")
    fetch(hub)
    assert store.manifest(ID)["shaders"] == {}, "what cannot be told apart is not called valid"


def test_again_asks_for_nothing(home: Path, hub: Hub) -> None:
    """What is here whole is not fetched; a shard that was altered here is fetched anew, and the others are not."""
    folder = fetch(hub)
    before = len(hub.asked)
    assert fetch(hub) == folder
    assert len(hub.asked) == before
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(b"x" + content[1:])
    whole(hub, fetch(hub))
    assert (len(ranges(hub, SHARD)), len(ranges(hub, "params_shard_1.bin"))) == (2, 1)


def test_a_cut_connection_goes_on(home: Path, hub: Hub) -> None:
    """After each cut the rest is asked for, and no byte comes twice; as many cuts as there are do not end it."""
    content = hub.files[hub.path(SHARD)]

    def cut(handler: Handler) -> bool:
        return handler.give(content, cut=30_000)

    hub.faults[hub.path(SHARD)] = [cut] * (TRIES + 2)
    whole(hub, fetch(hub))
    assert ranges(hub, SHARD) == [None, *(f"bytes={30_000 * n}-" for n in range(1, TRIES + 3))]
    assert hub.sent == sum(len(content) for content in hub.files.values())


def test_without_a_validator_it_begins_anew(home: Path, hub: Hub) -> None:
    """A host that sends no validator cannot say whether the rest belongs to what is here."""
    hub.tags = False
    hub.faults[hub.path(SHARD)] = [lambda handler: handler.give(hub.files[hub.path(SHARD)], cut=30_000)]
    whole(hub, fetch(hub))
    assert ranges(hub, SHARD) == [None, None]


def test_a_file_that_changed_meanwhile(home: Path, hub: Hub) -> None:
    """The rest of another version is not put behind the first part: If-Range brings the new one whole."""
    hub.faults[hub.path("model.wasm")] = [lambda handler: handler.give(model_hub.library(90_000, b"\2"), cut=30_000)]
    hub.files[hub.path("model.wasm")] = model_hub.library(90_000, b"\3")
    whole(hub, fetch(hub))
    assert ranges(hub, "model.wasm") == [None, "bytes=30000-"]


def test_wrong_bytes(home: Path, hub: Hub) -> None:
    """A shard that is not what the index promises is fetched once more; wrong again, it is an error and nothing is published."""
    wrong = b"x" * len(hub.files[hub.path(SHARD)])
    hub.faults[hub.path(SHARD)] = [lambda handler: handler.give(wrong)] * 3
    with pytest.raises(SourceError, match=f"{SHARD}: .* md5 .*, twice"):
        fetch(hub)
    assert store.current(ID) is None
    assert store.read(ID)["error"]["code"] == "source"
    assert not (home / "mirrors" / ID / SHARD).exists()
    whole(hub, fetch(hub))  # one wrong answer is left


def test_more_bytes_than_promised(home: Path, hub: Hub) -> None:
    """An answer without end is left at the size the index gives."""
    hub.faults[hub.path(SHARD)] = [lambda handler: handler.give(b"x" * 5_000_000)] * 2
    with pytest.raises(SourceError, match="larger than"):
        fetch(hub)


def test_fewer_bytes_than_said(home: Path, hub: Hub) -> None:
    """An answer that ends before the file does, by its own word or by none, is not taken for it: library and shard alike."""
    for name, length in ((SHARD, "1000"), ("model.wasm", ""), ("model.wasm", "40000")):
        content = hub.files[hub.path(name)]
        hub.faults[hub.path(name)] = [
            lambda handler, content=content, length=length: handler.give(  # type: ignore[misc]
                content, cut=int(length or 40_000), more={"content-length": length}
            )
        ]
        if name != SHARD:  # nobody states a library's sum, but its own sections tell its end
            with pytest.raises(SourceError, match="no whole WebAssembly"):
                fetch(hub)
    whole(hub, fetch(hub))


@pytest.mark.parametrize("name", [SHARD, "mlc-chat-config.json", "model.wasm"])
def test_a_host_that_packs(home: Path, hub: Hub, name: str) -> None:
    """Plain bytes were asked for: what comes packed is refused by that name, not kept, and not taken for a damaged file."""
    packed = gzip.compress(hub.files[hub.path(name)])
    hub.faults[hub.path(name)] = [lambda handler: handler.give(packed, more={"content-encoding": "gzip"})]
    with pytest.raises(SourceError, match=rf"{hub.path(name)} comes packed \(gzip\)"):
        fetch(hub)
    whole(hub, fetch(hub))


def test_a_host_that_drips(home: Path, hub: Hub) -> None:
    """A byte now and then does not hold us for ever: such connections are cut, and after so many of them it gives up."""
    content, gone = hub.files[hub.path(SHARD)], threading.Event()

    def drip(handler: Handler) -> bool:
        handler.give(content, cut=0)
        with suppress(OSError):
            while not gone.wait(0.02):
                handler.wfile.write(b"x")
        return True

    hub.faults[hub.path(SHARD)] = [drip] * TRIES
    try:
        with pytest.raises(SourceError, match=r"bytes in 1 s; gave up"):
            fetch(hub, stall=1)
    finally:
        gone.set()
    assert len(ranges(hub, SHARD)) == TRIES


@pytest.mark.parametrize("name", ["tokenizer.json", SHARD, "mlc-chat-config.json", "model.wasm"])
@pytest.mark.parametrize("status", [404, 403, 401])
def test_refused(home: Path, hub: Hub, status: int, name: str) -> None:
    """What will not change by asking again is an error at once, with the address, and nothing is on the shelf."""
    hub.faults[hub.path(name)] = [lambda handler: handler.status(status)]
    waits = Waits()
    with pytest.raises(SourceError, match=rf"{hub.path(name)}.*HTTP {status}"):
        fetch(hub, waits)
    assert waits.seconds == []
    assert store.current(ID) is None


def test_asked_to_wait(home: Path, hub: Hub) -> None:
    """Retry-After is kept to, in seconds; without it the pauses double."""
    hub.faults[hub.path(SHARD)] = [
        lambda handler: handler.status(429, retry_after="7"),
        lambda handler: handler.status(503),
        lambda handler: handler.status(500),
    ]
    waits = Waits()
    whole(hub, fetch(hub, waits))
    assert waits.seconds == [7.0, 2.0, 4.0]


def test_asked_to_wait_until_a_date(home: Path, hub: Hub) -> None:
    """Retry-After may be a date; one that has passed, or is far away or garbled, does not stop the mirror for ever."""
    soon, past, far = (formatdate(time.time() + seconds, usegmt=True) for seconds in (60, -60, 10**6))
    hub.faults[hub.path(SHARD)] = [
        lambda handler, when=when: handler.status(503, retry_after=when)  # type: ignore[misc]
        for when in (soon, past, far, "whenever")
    ]
    waits = Waits()
    whole(hub, fetch(hub, waits))
    assert 20 < waits.seconds[0] <= 60
    assert waits.seconds[1:3] == [0.0, 120.0]
    assert 0 < waits.seconds[3] <= 120


def test_a_host_that_knows_no_ranges(home: Path, hub: Hub) -> None:
    """Asked for the rest it sends all of it: nothing is put behind what is here."""
    content = hub.files[hub.path(SHARD)]
    hub.faults[hub.path(SHARD)] = [
        lambda handler: handler.give(content, cut=30_000),
        lambda handler: handler.give(content, span=""),
    ]
    whole(hub, fetch(hub))
    assert ranges(hub, SHARD) == [None, "bytes=30000-"]


def test_a_host_that_answers_another_range(home: Path, hub: Hub) -> None:
    """A part that was not asked for is dropped with what is here, and so is what the host says it no longer has."""
    content = hub.files[hub.path(SHARD)]

    def cut(handler: Handler) -> bool:
        return handler.give(content, cut=30_000)

    hub.faults[hub.path(SHARD)] = [
        cut,
        lambda handler: handler.give(content, span="bytes=7-"),
        cut,
        lambda handler: handler.status(416),
    ]
    whole(hub, fetch(hub))
    assert ranges(hub, SHARD) == [None, "bytes=30000-", None, "bytes=30000-", None]


def test_a_host_that_stays_down(home: Path, hub: Hub) -> None:
    """After so many tries without a byte it gives up, and says that what came is kept."""
    hub.faults[hub.path(SHARD)] = [lambda handler: handler.status(502)] * 50
    with pytest.raises(SourceError, match=f"HTTP 502; gave up after {TRIES} tries"):
        fetch(hub)
    assert len(ranges(hub, SHARD)) == TRIES


def test_a_line_that_falls_silent(home: Path, hub: Hub) -> None:
    """A connection without a byte for too long is dropped, and the rest asked for."""
    release = threading.Event()

    def silent(handler: Handler) -> bool:
        content = hub.files[hub.path(SHARD)]
        handler.give(content[:50_000] + content[50_000:], cut=50_000)
        handler.wfile.flush()
        release.wait(120)
        return True

    hub.faults[hub.path(SHARD)] = [silent]
    try:
        folder = fetch(hub, stall=2.0)
    finally:
        release.set()
    whole(hub, folder)
    assert ranges(hub, SHARD) == [None, "bytes=50000-"]


def test_redirects(home: Path, hub: Hub) -> None:
    """The hub sends on to its store, also for the rest after a cut; a redirect to anything but the web is not followed."""
    path = hub.path(SHARD)
    hub.faults[path] = [lambda handler: handler.status(302, location=f"/cdn{path}")] * 2
    hub.faults[f"/cdn{path}"] = [lambda handler: handler.give(hub.files[path], cut=1000)]
    whole(hub, fetch(hub))
    assert [span for asked, span in hub.asked if asked == f"/cdn{path}"] == [None, "bytes=1000-"]
    store.remove(ID)
    for location in ("file:///etc/passwd", path, "ftp://hub.invalid/x"):
        hub.faults[path] = [lambda handler, to=location: handler.status(302, location=to)] * 20  # type: ignore[misc]
        with pytest.raises(SourceError, match="not followed"):
            fetch(hub)


def test_another_host_gives_the_bytes(home: Path, hub: Hub) -> None:
    """The publisher sends on to a store on another host, as the real one does; wrong bytes from there are no better for it."""
    with model_hub.serving() as store_host:
        path = hub.path(SHARD)
        there = f"{store_host.origin.replace('127.0.0.1', 'localhost')}{path}"
        hub.faults[path] = [lambda handler: handler.status(302, location=there)] * 4
        store_host.files[path] = b"x" * len(store_host.files[path])
        with pytest.raises(SourceError, match="md5"):
            fetch(hub)
        store_host.files[path] = hub.files[path]
        whole(hub, fetch(hub))
        assert [asked for asked, _ in store_host.asked] == [path] * 3


def test_removed_on_the_way(home: Path, hub: Hub) -> None:
    """`rm` of a model that is half here takes what has come, too."""
    hub.faults[hub.path("model.wasm")] = [lambda handler: handler.status(404)]
    with pytest.raises(SourceError):
        fetch(hub)
    assert (home / "mirrors" / ID / SHARD).is_file()
    store.remove(ID)
    assert not (home / "mirrors" / ID).exists()


def test_a_page_instead_of_a_file(home: Path, hub: Hub) -> None:
    """An error page with status 200 is not taken for a configuration, nor for a library; the next try is not poisoned by it."""
    for name in ("mlc-chat-config.json", "model.wasm", "tokenizer.json"):
        hub.faults[hub.path(name)] = [lambda handler: handler.give(b"<html>Please log in</html>")]
        with pytest.raises(SourceError, match=r"no JSON|no whole WebAssembly"):
            fetch(hub)
    whole(hub, fetch(hub))


@pytest.mark.parametrize("name", ["../../evil.bin", "/etc/passwd", "a/b.bin", "", "x.part", "manifest.json"])
def test_names_that_lead_elsewhere(home: Path, hub: Hub, name: str) -> None:
    """A file name in the index is a plain one beside it, and none of ours."""
    index = json.loads(hub.files[hub.path("tensor-cache.json")])
    index["records"][0]["dataPath"] = name
    hub.files[hub.path("tensor-cache.json")] = json.dumps(index).encode()
    with pytest.raises(SourceError, match="no WebLLM model"):
        fetch(hub)


def test_the_old_index(home: Path, hub: Hub) -> None:
    """A model that has its index under the old name alone comes with the new one."""
    hub.files[hub.path("ndarray-cache.json")] = index = hub.files.pop(hub.path("tensor-cache.json"))
    assert (fetch(hub) / "tensor-cache.json").read_bytes() == index


def test_no_card(home: Path, hub: Hub) -> None:
    """Without a card no licence is claimed."""
    del hub.files[hub.path("README.md")]
    fetch(hub)
    assert store.manifest(ID)["licence"] == "not stated by the checkpoint"


def test_a_full_disk(small_disk: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot fit is refused before it comes; what fills the disk on the way leaves nothing that passes for whole."""
    monkeypatch.setenv("HYBR_HOME", str(small_disk))
    hub.files = model_hub.files([b"x" * 2_000_000])
    with pytest.raises(DiskFull, match="still to come"):
        fetch(hub)
    assert ranges(hub, SHARD) == []
    hub.files = model_hub.files()
    hub.files[hub.path("model.wasm")] = model_hub.library(2_000_000)  # nobody says beforehand how large it is
    with pytest.raises((DiskFull, OSError)) as caught:
        fetch(hub)
    assert isinstance(caught.value, DiskFull) or caught.value.errno == errno.ENOSPC
    assert store.current(ID) is None


CHILD = """
import sys
from hybr.mlc_build import mirror
mirror.mirror(mirror.choose(sys.argv[1], list, library=sys.argv[2], name=sys.argv[3]))
"""


def test_killed_and_resumed(home: Path, hub: Hub) -> None:
    """A mirror killed inside a shard goes on from there; the state says it is gone, and while it ran a second was refused."""
    reached, release = threading.Event(), threading.Event()
    second = hub.path("params_shard_1.bin")

    def hang(handler: Handler) -> bool:
        handler.give(hub.files[second], cut=100_000)
        handler.wfile.flush()
        reached.set()
        release.wait(120)
        return True

    hub.faults[second] = [hang]
    record = replace(hub.record(), overrides={}, vram_bytes=0)
    words = [sys.executable, "-c", CHILD, record.model, record.library, ID]
    with subprocess.Popen(words, env={**os.environ, "HYBR_HOME": str(home)}, stderr=subprocess.DEVNULL) as child:
        assert reached.wait(120)
        part = home / "mirrors" / ID / "params_shard_1.bin.part"
        while not (part.exists() and part.stat().st_size == 100_000) and child.poll() is None:
            time.sleep(0.02)  # the bytes are in its hands, and nothing says when they are on the disk
        assert store.read(ID)["state"] == "building"
        with pytest.raises(Busy, match=str(child.pid)):
            fetch(hub)
        child.kill()
    release.set()
    assert store.read(ID)["state"] == "missing"
    whole(hub, fetch(hub))
    assert ranges(hub, SHARD) == [None]
    assert ranges(hub, "params_shard_1.bin") == [None, "bytes=100000-"]


def shards_here(home: Path) -> set[str]:
    """Return the shards that have arrived whole, fetched or published."""
    return {path.name for kind in ("mirrors", "models") for path in (home / kind / ID).rglob("*.bin") if "tmp-" not in str(path)}


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 6])
def test_killed_at_touches(every: int, home: Path, hub: Hub, killer: Killer) -> None:
    """Killed at any touch of the disk, a mirror is the same in the end, asks for no shard twice, and leaves nothing over."""
    record = hub.record()
    words = (record.model, record.library, ID)
    code = (
        "from hybr.mlc_build import mirror\n"
        f"address, library, name = {words!r}\n"
        "mirror.mirror(mirror.choose(address, list, library=library, name=name))"
    )

    def lying() -> dict[str, bytes]:
        found = (path for kind in ("models", "mirrors") for path in (home / kind).rglob("*") if path.is_file())
        return {
            str(path.relative_to(home)): path.read_bytes() for path in found if not path.name.endswith((store.STATE, ".lock"))
        }

    touches = len(killer.run(home, code)[1])
    clean = lying()
    for at in range(1 + every // 2, touches + 1, every):
        for kind in ("models", "mirrors"):
            shutil.rmtree(home / kind, ignore_errors=True)
        assert killer.run(home, code, at)[0]
        if (folder := store.current(ID)) is not None:
            manifest.verify(folder, store.manifest(ID))
        here = shards_here(home)
        hub.asked.clear()
        killer.run(home, code)
        assert not {path.rsplit("/", 1)[-1] for path, _ in hub.asked} & here, at
        killer.run(home, code)
        assert lying() == clean, at


def test_what_a_person_may_ask_for(hub: Hub) -> None:
    """An id in any case, an address, another host with the same paths, a library of one's own; the rest is refused in words."""
    published = replace(hub.record(), model="https://hub.invalid/someone/Tiny", library="https://libs.invalid/v1/t.wasm")

    def known() -> list[mirror.Record]:
        return [published]

    assert mirror.choose("TINY-q4f16_1-mlc", known) == Remote(ID, published)
    moved = mirror.choose(published.id, known, host="mirror.invalid:8443").record
    assert (moved.model, moved.library) == ("https://mirror.invalid:8443/someone/Tiny", "https://mirror.invalid:8443/v1/t.wasm")
    prefixed = mirror.choose(published.id, known, host="http://inside.invalid/hub/").record
    assert prefixed.model == "http://inside.invalid/hub/someone/Tiny"
    there = mirror.choose("http://inside.invalid/someone/Tiny", known)
    assert there.record.library == "http://inside.invalid/v1/t.wasm"
    assert there.record.overrides == published.overrides
    with pytest.raises(UnknownModel, match="near: Tiny-q4f16_1-MLC"):
        mirror.choose("tiny", known)
    with pytest.raises(UnknownModel, match="--library"):
        mirror.choose("https://hub.invalid/someone/Other", known)
    with pytest.raises(UnknownModel, match="cannot be an id"):
        mirror.choose(published.id, known, name="../up")


def test_the_catalogue_is_read_as_javascript_reads_it() -> None:
    """Every record of the installed WebLLM's catalogue is the one that Node sees when it runs the package."""
    records = mirror.known()
    from hybr.server.page import npm

    script = npm.folder() / "@mlc-ai" / "web-llm" / "lib" / "index.js"
    told = "import(process.argv[1]).then(m => console.log(JSON.stringify(m.prebuiltAppConfig.model_list)))"
    run = subprocess.run(["node", "-e", told, str(script)], capture_output=True, text=True, check=True)
    wanted = json.loads(run.stdout)
    assert len(records) == len(wanted) > 100
    for record, item in zip(records, wanted, strict=True):
        assert (record.id, record.model, record.library) == (item["model_id"], item["model"], item["model_lib"])
        kind = item.get("model_type", 0)  # ModelType: LLM, embedding, VLM
        assert (record.kind, record.vision) == ("embedding" if kind == 1 else "chat", kind == 2)
        assert record.features == tuple(item.get("required_features", ()))
        assert record.overrides == item.get("overrides", {})
        assert record.vram_bytes == round(item.get("vram_required_MB", 0) * 1e6)
