"""The shelf: states, revisions, and what a dead or second builder means."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hybr.mlc_build import cli, maker, steps, store
from hybr.mlc_build.errors import Busy, Damaged, Taken, UnknownModel

if TYPE_CHECKING:
    from killed import Killer

A, B, C = "a" * 16, "b" * 16, "c" * 16


def put(home: Path, rev: str) -> Path:
    """Publish a revision of `tiny` that holds one file and a manifest."""
    made = Path(tempfile.mkdtemp(dir=home))
    (made / "manifest.json").write_text(json.dumps({"id": "tiny", "rev": rev}))
    (made / "file").write_text(rev)
    return store.put("tiny", made, rev)


def dead_process() -> int:
    """Return the id of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True).stdout)


def test_nothing(home: Path) -> None:
    """A model never built is missing, has no folder and no manifest."""
    assert store.read("tiny")["state"] == "missing"
    assert store.current("tiny") is None
    with pytest.raises(UnknownModel, match="hybr models build tiny"):
        store.manifest("tiny")


def test_put(home: Path) -> None:
    """A published build is current, and its state names the revision."""
    folder = put(home, A)
    assert store.current("tiny") == folder
    assert store.read("tiny") | {"updated": 0} == {
        "state": "built", "progress": None, "error": None, "rev": A, "made_by": maker.fingerprint(),
        "manifest": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "source": None, "pid": os.getpid(), "updated": 0,
    }  # fmt: skip
    assert store.manifest("tiny")["rev"] == A


def test_an_id_of_another_source_is_refused(home: Path) -> None:
    """A model is not replaced by one built from elsewhere: the message names what it is built from; its own source may."""
    folder = put(home, A)
    state = folder.parent / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"source": "/models/one"}))
    with pytest.raises(Taken, match=r"built from /models/one; .* hybr models rm tiny"), store.building("tiny", "/models/other"):
        pytest.fail("it was let in")
    with store.building("tiny", "/models/one"):
        store.write("tiny", "failed")
    assert store.read("tiny")["source"] == "/models/one"
    assert store.again("tiny").startswith("run: hybr models build /models/one --id tiny")


def test_previous_revision_stays_one_build_long(home: Path) -> None:
    """A page that is downloading the revision before finishes; older ones go."""
    for rev in (A, B, C):
        put(home, rev)
    assert sorted(path.name for path in (home / "models" / "tiny").iterdir()) == [B, C, "state.json"]


def test_same_revision_again(home: Path) -> None:
    """Publishing the same contents again keeps what is there, and takes what is newly said of it."""
    first = put(home, A)
    (first / "file").chmod(0o400)
    (first / "manifest.json").write_text('{"rev": "of an older compiler"}')
    assert put(home, A) == first
    assert (first / "file").stat().st_mode & 0o777 == 0o400
    assert store.manifest("tiny")["rev"] == A


def test_building_keeps_the_revision(home: Path) -> None:
    """While a rebuild runs, and after it failed, the last build is still named."""
    put(home, A)
    store.write("tiny", "building", progress={"step": "weights", "fraction": 0.5, "text": "t", "eta_s": 1})
    assert (store.read("tiny")["state"], store.read("tiny")["rev"]) == ("building", A)
    store.write("tiny", "failed", error={"code": "compile", "message": "m"})
    assert (store.read("tiny")["state"], store.read("tiny")["rev"]) == ("failed", A)
    assert store.current("tiny") is not None


@pytest.mark.parametrize("before", [None, A])
def test_dead_builder(home: Path, before: str | None) -> None:
    """A build whose process is gone counts as missing, or as built when there is an earlier revision."""
    if before:
        put(home, before)
    store.write("tiny", "building")
    path = home / "models" / "tiny" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": dead_process()}))
    assert store.read("tiny")["state"] == ("built" if before else "missing")


@pytest.mark.parametrize("contents", ["", "{", "[]", '{"state": "bui'])
def test_damaged_state(home: Path, contents: str) -> None:
    """A state file cut short by a crash of the machine means missing, not a crash of ours."""
    (home / "models" / "tiny").mkdir(parents=True)
    (home / "models" / "tiny" / "state.json").write_text(contents)
    assert store.read("tiny")["state"] == "missing"
    assert store.current("tiny") is None


def test_damaged_manifest(home: Path) -> None:
    """A manifest that cannot be read is named with the remedy."""
    (put(home, A) / "manifest.json").write_text("{")
    with pytest.raises(Damaged, match="hybr models build tiny"):
        store.manifest("tiny")


def test_altered_manifest(home: Path) -> None:
    """A manifest that reads well but is not what was published (an altered size, say) is not believed."""
    path = put(home, A) / "manifest.json"
    path.write_text(path.read_text().replace('"rev"', '"vram_bytes": 1, "rev"'))
    with pytest.raises(Damaged, match=r"manifest.json was altered .*hybr models build tiny"):
        store.manifest("tiny")
    put(home, A)
    assert "vram_bytes" not in store.manifest("tiny")


def test_read_while_a_build_publishes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a manifest meanwhile has the one before or the next one; nothing of it is taken for damaged."""
    put(home, A)
    folder, renew = store._folder, store._renew

    def late(name: str, state: dict[str, Any]) -> Path | None:
        monkeypatch.setattr(store, "_folder", folder)
        put(home, B)
        return folder(name, state)

    def renewed(made: Path, final: Path) -> None:
        renew(made, final)
        seen.append(store.manifest("tiny"))

    monkeypatch.setattr(store, "_folder", late)
    assert store.manifest("tiny")["rev"] == A
    seen = list[dict[str, Any]]()
    monkeypatch.setattr(store, "_renew", renewed)
    (store.root() / "tiny" / B / "manifest.json").write_text('{"rev": "of an older compiler"}')
    put(home, B)
    assert [found["rev"] for found in seen] == [B]


def test_damage_is_mended_by_the_same_build(home: Path) -> None:
    """What the remedy names helps: the revision that is made again replaces what was altered, and leaves the rest alone."""
    folder = put(home, A)
    before = (folder / "file").read_bytes()
    (folder / "file").write_bytes(b"altered")
    assert put(home, A) == folder
    assert (folder / "file").read_bytes() == before


@pytest.mark.parametrize("name", ["..", ".", "../models/tiny", "tiny/..", "", "TINY", "/tmp"])
def test_names_that_are_no_models(home: Path, name: str) -> None:
    """A name that is a path to somewhere removes nothing, and finds no manifest."""
    folder = put(home, A)
    with pytest.raises(UnknownModel, match="is not built"):
        store.remove(name)
    with pytest.raises(UnknownModel):
        store.manifest(name)
    assert folder.is_dir()


def test_one_builder(home: Path) -> None:
    """A second builder of the same model is told who the first is; another model is free."""
    code = (
        "import time; from hybr.mlc_build import store\n"
        "with store.building('tiny'): store.write('tiny', 'building'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Busy, match=f"process {process.pid}"), store.building("tiny"):
            pass
        with pytest.raises(Busy):
            store.remove("tiny")
        with store.building("smollm2-135m"):
            pass
        process.kill()
    with store.building("tiny"):
        pass


def test_removed_half(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that is cut short leaves nothing that passes for a model, and the next one removes the rest."""
    folder = put(home, A)

    def killed(taken: Path, **_options: object) -> None:
        (taken / "file").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.remove("tiny")
    assert list(folder.parent.rglob("manifest.json"))
    assert not folder.exists()
    assert store.current("tiny") is None
    assert store.names() == []
    store.remove("tiny")
    assert not folder.parent.exists()


def test_a_build_while_it_is_removed(home: Path, killer: Killer) -> None:
    """A build that is asked for at any touch of `rm` is told who removes the model, until it is gone; then it may build."""
    put(home, A)
    put(home, B)
    told = []
    for _ in killer.held(home, "from hybr.mlc_build import store; store.discard('tiny')", within="os.r"):
        try:
            with store.building("tiny"):
                told.append("free")
        except Busy as error:
            told.append(re.sub(r"\d+", "N", str(error)))
    busy = "tiny is being removed by process N already; wait for it, or stop it"
    assert told[:6] == [busy] * 6
    assert set(told) <= {busy, "free"}
    assert store.names() == []
    put(home, C)
    assert store.manifest("tiny")["rev"] == C


def test_who_had_it_is_not_who_has_it(home: Path) -> None:
    """The process that a killed build left its name of is not called the one to wait for."""
    lock = home / "models" / ".tiny.lock"
    with store.building("tiny"):
        for left in ("", f"built by process {dead_process()}"):
            lock.write_text(left)
            with pytest.raises(Busy, match="tiny is in the hands of another process already"), store.building("tiny"):
                pytest.fail("it was let in")


def from_steps(home: Path, name: str, *kinds: str) -> Path:
    """Publish a model that consists of a manifest and links to kept steps, of 1000 bytes each."""
    made = Path(tempfile.mkdtemp(dir=home))
    (made / "manifest.json").write_text("{}")
    for kind in kinds:
        step = steps.once(home / "steps" / kind / A, lambda folder: (folder / "file").write_bytes(bytes(1000)) and None)
        (made / kind).hardlink_to(step / "file")
    return store.put(name, made, A)


def test_removal_frees_what_was_the_models_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kept steps go with a model, but for those another consists of; none goes while a build runs that may want it."""
    from_steps(home, "one", "weights", "libraries")
    other = from_steps(home, "other", "libraries")
    steps.once(home / "steps" / "weights" / B, lambda folder: (folder / "file").write_text("of a build that was killed") and None)
    assert store.discard("one") == (1002, 1000)
    assert sorted(path.name for path in (home / "steps").glob("*/*/file")) == ["file", "file"]
    assert not (home / "steps" / "weights" / A).exists()
    assert (other / "libraries").read_bytes() == bytes(1000)
    with store.building("third"):
        assert store.discard("other") == (2, 1000)
    assert (home / "steps" / "libraries" / A / "file").is_file()
    from_steps(home, "other", "libraries")
    assert cli.remove_model(argparse.Namespace(id="other")) is None
    assert capsys.readouterr().out == "other is removed: 0.0 MB are free\n"
    assert not (home / "steps" / "libraries" / A).exists()
    with pytest.raises(UnknownModel):
        store.discard("..")


def test_remove(home: Path) -> None:
    """A removed model is gone; removing what is not there says what is."""
    put(home, A)
    assert store.names() == ["tiny"]
    store.remove("tiny")
    assert store.names() == []
    with pytest.raises(UnknownModel, match="none"):
        store.remove("tiny")
