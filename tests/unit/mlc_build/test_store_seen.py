"""What others see of a model while it is published, replaced or removed: all of one revision, or none of it, and never a part.

First the one who writes stands still before each change of a name, and others look; then the one who reads stands still before
each file that it opens, and the shelf changes under it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving import asking, parts_in
from shelf import built

from hybr.mlc_build import cli, manifest, own, store
from hybr.mlc_build.build import LIBRARIES, build_entry
from hybr.mlc_build.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from killed import Killer

pytestmark = pytest.mark.models

BUILD = "from hybr.mlc_build.build import build; build('tiny', profiles=('software',))"
REMOVE = "from hybr.mlc_build import store; store.discard('tiny')"
NONE = {"building": "hybr: tiny is not built yet: process ", "missing": "hybr: tiny is not built; run: "}
RENAMES = "os.r"
"""os.rename, os.remove, os.rmdir: all by which a name on the shelf comes to stand for something else."""


@pytest.fixture(scope="session")
def plain() -> Path:
    """The folder of the built `tiny-q0f32`."""
    return built("tiny-q0f32")


@pytest.fixture
def fresh(home: Path, real_home: Path, tiny: Path) -> Path:
    """An empty shelf, with this machine's runtime and kept steps (as links), so that a build of `tiny` has little to do."""
    assert tiny.is_relative_to(real_home)  # so they are there
    (home / "runtime").symlink_to(real_home / "runtime")
    for kind in ("weights", "libraries"):
        for step in (real_home / "steps" / kind).glob("[0-9a-f]*"):
            shutil.copytree(step, home / "steps" / kind / step.name, copy_function=os.link)
    return home


@pytest.fixture
def eyes(tiny: Path, shared: httpx.Client) -> tuple[Path, httpx.Client]:
    """What should be seen, and `hybr models serve` to see it by."""
    return tiny, shared


def shelve(home: Path, tiny: Path, *, without: str, **told: str) -> str:
    """Publish the real model less one of its libraries, which makes another revision of it; return that."""
    made = Path(tempfile.mkdtemp(dir=home))
    for file in tiny.iterdir():
        if file.name.removesuffix(".br") not in {without, store.MANIFEST}:
            (made / file.name).hardlink_to(file)
    found = json.loads((tiny / store.MANIFEST).read_bytes())
    found["files"] = [item for item in found["files"] if item["path"] != without]
    found |= {"rev": manifest.revision(found["files"]), **told}
    (made / store.MANIFEST).write_text(json.dumps(found))
    return store.put("tiny", made, found["rev"]).name


def verify() -> int:
    """Run `hybr models verify tiny` and return its exit status."""
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", "verify", "tiny"])
    return int(args.run(args))


async def seen(client: httpx.AsyncClient, known: dict[str, list[dict[str, Any]]], tiny: Path) -> tuple[str, str | None]:
    """Return the state and revision that a server tells; each revision that was ever told is there to its last byte, or gone."""
    told = (await client.get("/models/index.json")).json()["models"]
    entry = next((one for one in told if one["id"] == "tiny"), {"state": "missing", "base": None})
    rev = entry["base"] and entry["base"].split("/")[3]
    if rev:
        known[rev] = entry["files"]
    for other, files in known.items():
        tail = {"range": "bytes=-1000"}
        answers = [await client.get(f"/models/tiny/{other}/{item['path']}", headers=tail) for item in files]
        there = [one.content == (tiny / item["path"]).read_bytes()[-1000:] for one, item in zip(answers, files, strict=True)]
        sizes = [
            one.headers.get("content-range", "").split("/")[-1] == str(item["bytes"])
            for one, item in zip(answers, files, strict=True)
        ]
        gone = [one.status_code == 404 and one.json()["error"]["code"] == "no_such_file" for one in answers]
        assert all(there + sizes) or (all(gone) and other != rev), (other, [one.status_code for one in answers])
    return entry["state"], rev


@pytest.mark.parametrize("change", [*(pytest.param(name, marks=pytest.mark.long) for name in ("first", "same")), "next", "rm"])
def test_while_it_is_written(
    change: str, fresh: Path, eyes: tuple[Path, httpx.Client], killer: Killer, capsys: pytest.CaptureFixture[str]
) -> None:
    """At each rename and removal of builds and `rm`, `verify`, `serve` and the house server see the old or the new whole."""
    tiny, shared = eyes
    known, seq = dict[str, list[dict[str, Any]]](), list[tuple[str, str | None]]()
    if change in {"next", "rm"}:
        olds = [shelve(fresh, tiny, without=name) for name in ("model.wasm", "model-subgroups.wasm")]
        known = {rev: json.loads((store.root() / "tiny" / rev / store.MANIFEST).read_bytes())["files"] for rev in olds}
    elif change == "same":
        killer.run(fresh, BUILD)
        folder = store.root() / "tiny" / store.manifest("tiny")["rev"]
        state = folder.parent / store.STATE
        (folder / store.MANIFEST).write_text((folder / store.MANIFEST).read_text() + "\n")  # an older compiler's
        noted = hashlib.sha256((folder / store.MANIFEST).read_bytes()).hexdigest()
        state.write_text(json.dumps(json.loads(state.read_text()) | {"manifest": noted}))

    async def everyone() -> None:
        async with asking(parts_in(fresh.parent)) as house, httpx.AsyncClient(base_url=shared.base_url) as served:
            for n, touch in enumerate(killer.held(fresh, REMOVE if change == "rm" else BUILD, within=RENAMES)):
                if touch.startswith("os.remove") and n % 4:
                    continue  # one after the other of a folder's files
                look = await seen(house, known, tiny)
                assert await seen(served, known, tiny) == look
                seq.append(look)
                status, told = verify(), capsys.readouterr()
                assert told.out.startswith("tiny is whole: ") if look[1] else told.err.startswith(NONE[look[0]])
                assert status == (look[1] is None)
                assert "damaged" not in cli.describe("tiny", store.read("tiny"))
            seq.append(await seen(house, known, tiny))

    asyncio.run(everyone())
    revs = [rev for n, (_, rev) in enumerate(seq) if n == 0 or rev != seq[n - 1][1]]
    gone = {"first": [True, False], "next": [False, False], "same": [False], "rm": [False, True]}[change]
    assert [rev is None for rev in revs] == gone, seq
    assert len(seq) > 7


@pytest.mark.usefixtures("plain")
def test_one_id_in_two_ways_at_once(fresh: Path, killer: Killer) -> None:
    """Another form and profile under an id that is being built is refused until that is there, and then takes its place whole.

    Under an id of its own it is built meanwhile.
    """

    def other(name: str) -> Path:
        return build_entry(own.entry_of("tiny", "q0f32", name=name), ("gpu",), io.StringIO())

    first = "build_entry(own.entry_of('tiny', 'q4f32_1', name='one'), ('software',))"
    code = f"from hybr.mlc_build import own; from hybr.mlc_build.build import build_entry; {first}"
    for n, _ in enumerate(killer.held(fresh, code, within="os.rename")):
        with pytest.raises(Busy, match=r"one is being built by process \d+ already"):
            other("one")
        if n == 1:
            other("two")
    before = manifest.whole("one")
    assert (before["quantisation"], [path for path in LIBRARIES.values() if path in files(before)]) == (
        "q4f32_1",
        ["model-software.wasm"],
    )
    assert other("one").name == manifest.whole("two")["rev"]
    after = manifest.whole("one")
    assert (after["quantisation"], [path for path in LIBRARIES.values() if path in files(after)]) == ("q0f32", ["model.wasm"])
    manifest.verify(store.root() / "one" / before["rev"], before)


def files(found: dict[str, Any]) -> set[str]:
    """Return the names of a manifest's files."""
    return {item["path"] for item in found["files"]}


READ = """
import asyncio, hashlib, httpx
from hybr.mlc_build import share
async def read():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(share.create(8014)), base_url="http://127.0.0.1:8014") as client:
        client.headers["accept-encoding"] = "identity"
        for entry in (await client.get("/models/index.json")).json()["models"]:
            for item in entry["files"]:
                answer = await client.get(entry["base"] + item["path"])
                whole = hashlib.sha256(answer.content).hexdigest() == item["sha256"]
                print("whole" if whole else answer.status_code)
asyncio.run(read())
"""
VERIFY = """
import argparse
from hybr.mlc_build import cli
print(cli._guarded(cli.verify_model)(argparse.Namespace(id="tiny")))
"""
LIST = """
import argparse
from hybr.mlc_build import cli
cli.list_models(argparse.Namespace(json=False))
"""
SEES = {
    LIST: re.compile(r"(.*\n)*tiny +(built .*|missing)\n(.*\n)*"),
    READ: re.compile(r"(whole\n)*(404\n)*"),
    VERIFY: re.compile(r"tiny is whole: .*\n0\n|hybr: tiny is not built; run: .*\n1\n"),
}


SHORT = {("list", "rm"), ("read", "twice"), ("read", "rm"), ("verify", "newer"), ("verify", "twice"), ("verify", "rm")}
CASES = [
    pytest.param(code, change, id=f"{name}-{change}", marks=[] if (name, change) in SHORT else pytest.mark.long)
    for name, code in (("list", LIST), ("read", READ), ("verify", VERIFY))
    for change in ("newer", "next", "twice", "rm", "rm and again")
]


@pytest.mark.parametrize(("code", "change"), CASES)
def test_while_it_is_read(code: str, change: str, home: Path, tiny: Path, killer: Killer) -> None:
    """Whatever happens to a model between two files that somebody reads of it, it does not come half, nor is called damaged."""
    first = "model.wasm"
    changes: dict[str, list[Callable[[], object]]] = {
        "newer": [lambda: shelve(home, tiny, without=first, blocks="as a newer compiler tells it")],
        "next": [lambda: shelve(home, tiny, without="model-software.wasm")],
        "rm": [lambda: store.remove("tiny")],
    }
    changes["twice"] = [*changes["next"], lambda: shelve(home, tiny, without="model-subgroups.wasm")]
    changes["rm and again"] = [*changes["rm"], lambda: shelve(home, tiny, without=first)]
    shelve(home, tiny, without=first)
    count = len(list(killer.held(home, code, within="read", reads=True)))
    assert count >= (2 if code is LIST else 10)
    for at in range(count):
        shutil.rmtree(store.root())
        shelve(home, tiny, without=first)
        for n, _ in enumerate(killer.held(home, code, within="read", reads=True)):
            for act in changes[change] if n == at else ():
                act()
        said = Path(f"{home}.said").read_text()
        assert SEES[code].fullmatch(said), (at, said)
        assert change == "rm" or "not built" not in said
