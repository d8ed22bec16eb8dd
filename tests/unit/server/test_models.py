"""The models' shelf: the index and what may be fetched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from serving import REV, asking, parts_in, shelve, state

from hybr.mlc_build import catalogue, sources

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "id", "name", "family", "quantisation", "bytes", "vram_bytes", "features", "limits", "context", "sha256", "licence", "origin",
    "test_only", "state", "progress", "error", "base", "libraries", "files",
}  # fmt: skip


async def index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the index's entries by id."""
    async with asking(parts_in(folder)) as client:
        answer = await client.get("/models/index.json")
    assert answer.headers["cache-control"] == "no-cache"
    body = answer.json()
    assert body["schema"] == 1
    return {entry["id"]: entry for entry in body["models"]}


async def test_nothing_built(tmp_path: Path) -> None:
    """On a fresh machine the catalogue's models are listed as missing, with nothing to load."""
    entries = await index(tmp_path)
    assert {"tiny", "smollm2-135m"} <= set(entries)
    for entry in entries.values():
        assert set(entry) >= KEYS
        assert (entry["state"], entry["base"], entry["files"]) == ("missing", None, [])
        assert entry["name"]
        assert entry["context"] > 0
    assert entries["tiny"]["test_only"] is True
    assert entries["smollm2-135m"]["test_only"] is False


async def test_built(tmp_path: Path) -> None:
    """A finished build shows its base, its libraries and its files, and the base leads to them."""
    shelve(tmp_path / "home", "tiny", {"model.wasm": b"a", "params_shard_0.bin": b"bc"}, bytes=3, vram_bytes=9)
    entry = (await index(tmp_path))["tiny"]
    assert (entry["state"], entry["base"], entry["bytes"]) == ("built", f"/models/tiny/{REV}/", 3)
    assert entry["libraries"] == {"gpu": "model.wasm"}
    assert len(entry["sha256"]) == 64
    async with asking(parts_in(tmp_path)) as client:
        for file in entry["files"]:
            answer = await client.get(f"{entry['base']}resolve/main/{file['path']}")
            assert len(answer.content) == file["bytes"]


async def test_progress_and_failure(tmp_path: Path) -> None:
    """A running build shows its progress, a failed one its message."""
    progress = {"step": "compile", "fraction": 0.4, "text": "compiling", "eta_s": 60}
    state(tmp_path / "home", "tiny", state="building", pid=os.getpid(), progress=progress)
    state(tmp_path / "home", "smollm2-135m", state="failed", error={"code": "missing-tool", "message": "install emscripten"})
    entries = await index(tmp_path)
    assert (entries["tiny"]["state"], entries["tiny"]["progress"]) == ("building", progress)
    assert (entries["smollm2-135m"]["state"], entries["smollm2-135m"]["error"]["code"]) == ("failed", "missing-tool")


@pytest.fixture
def dead() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def test_a_dead_builder_builds_nothing(tmp_path: Path, dead: int) -> None:
    """`building` by a process that is gone is `missing`: a kill -9 leaves no eternal progress bar."""
    state(tmp_path / "home", "tiny", state="building", pid=dead)
    assert (await index(tmp_path))["tiny"]["state"] == "missing"


async def test_a_rebuild_keeps_the_last(tmp_path: Path) -> None:
    """While a model is built again, its last build can still be loaded."""
    shelve(tmp_path / "home", "tiny", {"model.wasm": b"a"})
    state(tmp_path / "home", "tiny", state="building", pid=os.getpid(), rev=REV)
    entry = (await index(tmp_path))["tiny"]
    assert (entry["state"], entry["base"]) == ("built", f"/models/tiny/{REV}/")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"x"', b'{"files": 5}', b'{"files": [{"path": "../../../../etc/passwd"}]}']
)
async def test_a_spoilt_manifest_is_not_built(tmp_path: Path, content: bytes) -> None:
    """A manifest that cannot be read, or that reaches outside, makes the model missing, not the server broken."""
    folder = shelve(tmp_path / "home", "tiny", {"model.wasm": b"a"})
    (folder / "manifest.json").write_bytes(content)
    assert (await index(tmp_path))["tiny"]["state"] == "missing"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "what"}', b'{"state": "building", "pid": "1"}'])
async def test_a_spoilt_state_is_missing(tmp_path: Path, content: bytes) -> None:
    """A state.json that makes no sense counts as none."""
    folder = tmp_path / "home" / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(content)
    assert (await index(tmp_path))["tiny"]["state"] == "missing"


async def test_the_index_is_checked_by_its_tag(tmp_path: Path) -> None:
    """Polling an unchanged index costs a 304; a changed one comes anew."""
    async with asking(parts_in(tmp_path)) as client:
        tag = (await client.get("/models/index.json")).headers["etag"]
        same = await client.get("/models/index.json", headers={"if-none-match": tag})
        state(tmp_path / "home", "tiny", state="failed", error={"code": "x", "message": "y"})
        changed = await client.get("/models/index.json", headers={"if-none-match": tag})
    assert (same.status_code, changed.status_code) == (304, 200)


@pytest.mark.parametrize(
    "path",
    [
        f"tiny/{REV}/resolve/main/../state.json",
        f"tiny/{REV}/resolve/main/..%2f..%2fstate.json",
        f"tiny/{REV}/resolve/main/%2e%2e/%2e%2e/secret",
        f"tiny/{REV}/resolve/main/..%5c..%5csecret",
        f"tiny/{REV}/resolve/main//etc/passwd",
        f"tiny/{REV}/resolve/main/model.wasm%00.json",
        f"tiny/{REV}/resolve/main/unlisted.txt",
        f"tiny/{REV}/resolve/main/model.wasm.br",
        f"tiny/{REV}/resolve/main/",
        f"../models/tiny/{REV}/resolve/main/nope",
        f"%2e%2e/{REV}/resolve/main/secret",
        "tiny/..%2f..%2f0000/secret",
        f"tiny/{REV.upper()}/resolve/main/model.wasm",
        "tiny/fedcba9876543210/resolve/main/model.wasm",
    ],
)
async def test_no_way_out(tmp_path: Path, path: str) -> None:
    """Only what a manifest lists is served, whatever the path looks like."""
    folder = shelve(tmp_path / "home", "tiny", {"model.wasm": b"a"})
    for secret in (folder / "unlisted.txt", folder.parent / "secret", tmp_path / "secret", folder / "model.wasm.br"):
        secret.write_bytes(b"secret")
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get(f"/models/{path}")
    assert answer.status_code == 404
    assert json.loads(answer.content)["error"]["code"] in {"no_such_file", "no_such_path"}


async def test_a_removed_model_is_gone(tmp_path: Path) -> None:
    """The cache may be deleted at any time: then the files are 404 and the model is missing."""
    folder = shelve(tmp_path / "home", "tiny", {"model.wasm": b"a"})
    parts = parts_in(tmp_path)
    async with asking(parts) as client:
        assert (await client.get(f"/models/tiny/{REV}/resolve/main/model.wasm")).status_code == 200
        shutil.rmtree(folder)
        assert (await client.get(f"/models/tiny/{REV}/resolve/main/model.wasm")).status_code == 404
        entry = next(one for one in (await client.get("/models/index.json")).json()["models"] if one["id"] == "tiny")
    assert entry["state"] == "missing"


async def test_what_is_newly_said_of_a_revision(tmp_path: Path) -> None:
    """A newer compiler that makes the same files may describe them anew: a server that runs meanwhile tells the new words."""
    folder = shelve(tmp_path / "home", "tiny", {"model.wasm": b"a"}, vram_bytes=9)
    async with asking(parts_in(tmp_path)) as client:

        async def told() -> Any:
            return next(one for one in (await client.get("/models/index.json")).json()["models"] if one["id"] == "tiny")

        before = await told()
        fresh = folder / "fresh"
        fresh.write_text(json.dumps(json.loads((folder / "manifest.json").read_text()) | {"vram_bytes": 10}))
        os.utime(fresh, ns=(1, 1))
        fresh.replace(folder / "manifest.json")
        after = await told()
    assert (before["vram_bytes"], after["vram_bytes"], after["base"]) == (9, 10, before["base"])
    assert after["sha256"] != before["sha256"]


async def test_the_gguf_is_served_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file a model was built from is named with its pinned sum and served under the revision, uncopied, by ranges too."""
    monkeypatch.setenv("HYBR_HOME", str(tmp_path / "home"))
    shelve(tmp_path / "home", "smollm2-135m", {"model.wasm": b"a"})
    assert (await index(tmp_path))["smollm2-135m"]["gguf"] is None  # not fetched here
    source = catalogue.find("smollm2-135m").source
    path = sources.location(source)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(source["member_bytes"])  # a hole of the right length
    entry = (await index(tmp_path))["smollm2-135m"]
    told = {"path": path.name, "bytes": source["member_bytes"], "sha256": source["member_sha256"]}
    assert {key: entry["gguf"][key] for key in told} == told
    assert entry["gguf"]["plain"] is True  # without the checkpoint's default system turn
    assert set(entry["gguf"]["sampling"]) == {"temperature", "top_p"}
    async with asking(parts_in(tmp_path)) as client:
        answer = await client.get(f"{entry['base']}resolve/main/{path.name}", headers={"range": "bytes=0-3"})
        assert (answer.status_code, answer.content) == (206, b"GGUF")
        assert (await client.get(f"/models/tiny/{REV}/{path.name}")).status_code == 404


async def test_a_gguf_that_was_built_is_the_models(tmp_path: Path) -> None:
    """The seeded model has no source: the file its build made is listed in its place, and runs under its own template."""
    shelve(tmp_path / "home", "tiny", {"model.wasm": b"a", "tiny.gguf": b"GGUF"})
    entry = (await index(tmp_path))["tiny"]
    assert (entry["gguf"]["path"], entry["gguf"]["bytes"], entry["gguf"]["plain"]) == ("tiny.gguf", 4, False)
    shelve(tmp_path / "home", "stray", {"model.wasm": b"a", "stray.gguf": b"GGUF"})
    assert (await index(tmp_path))["stray"]["gguf"] is None
