"""Steps and locks: whole or absent, whatever happens, and one builder at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hybr.mlc_build import lock, steps
from hybr.mlc_build.errors import DiskFull


def listed(folder: Path) -> list[str]:
    """Return the names of everything below a folder but its lock."""
    return sorted(path.name for path in folder.rglob("*") if path.name not in {steps.LOCK, steps.SUMS})


def test_once(tmp_path: Path) -> None:
    """A step runs once; its result is found again."""
    ran = []

    def make(folder: Path) -> None:
        ran.append(folder)
        (folder / "a").write_text("x")

    for _ in range(2):
        assert (steps.once(tmp_path / "step", make) / "a").read_text() == "x"
    assert len(ran) == 1
    assert listed(tmp_path) == ["a", "step"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """A step that fails half-way leaves neither a result nor its half."""

    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        steps.once(tmp_path / "step", make)
    assert listed(tmp_path) == []


def test_full_disk(small_disk: Path) -> None:
    """A disk that fills up under a step is named, with the remedy, and the disk is left as it was."""
    with pytest.raises(DiskFull, match=r"small.*HYBR_HOME"):
        steps.once(small_disk / "step", lambda folder: (folder / "big").write_bytes(bytes(2 << 20)) and None)
    assert listed(small_disk) == []


def test_killed_builder(tmp_path: Path) -> None:
    """A builder killed in the middle leaves a folder that is not taken for whole and that the next one sweeps."""
    code = (
        "import sys, time; from pathlib import Path; from hybr.mlc_build import steps\n"
        "def make(folder):\n (folder / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
        "steps.once(Path(sys.argv[1]) / 'step', make)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert len(list(tmp_path.glob("tmp-*"))) == 1
    steps.once(tmp_path / "step", lambda folder: (folder / "a").write_text("whole") and None)
    assert listed(tmp_path) == ["a", "step"]


@pytest.mark.parametrize("way", ["made anew", "pruned"])
def test_removed_half(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose removal is cut short, its sums gone first, is not taken for one that never had any."""
    step = steps.once(tmp_path / "step", lambda folder: (folder / "a").write_text("whole") and None)
    (step / "a").write_text("altered")
    os.utime(step, (0, 0))

    def killed(folder: Path, **_options: object) -> None:
        (folder / steps.SUMS).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.prune(tmp_path) if way == "pruned" else steps.once(step, lambda _folder: None)
    assert (steps.once(step, lambda folder: (folder / "a").write_text("whole") and None) / "a").read_text() == "whole"


def test_a_file_left_behind_is_swept(tmp_path: Path) -> None:
    """A note whose writer was killed before it had its name goes with the next sweep, as folders do."""
    (tmp_path / f"{steps.PREFIX}999999999-state.json").write_text("{")
    steps.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_living_workspace_stays(tmp_path: Path) -> None:
    """Sweeping leaves alone what a running process is filling."""
    with steps.workspace(tmp_path) as mine:
        steps.sweep(tmp_path)
        assert mine.is_dir()


def test_twins_share(tmp_path: Path) -> None:
    """Two that want the same step at once: one works, the other waits and finds it."""
    ran = []

    def make(folder: Path) -> None:
        ran.append(folder)
        time.sleep(0.2)
        (folder / "a").write_text("x")

    threads = [threading.Thread(target=steps.once, args=(tmp_path / "step", make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1
    assert (tmp_path / "step" / "a").read_text() == "x"


def test_publish_keeps_what_is_there(tmp_path: Path) -> None:
    """Where a whole folder of the same name lies already, it stays."""
    for name in ("step", "made"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    steps.publish(tmp_path / "made", tmp_path / "step")
    assert (tmp_path / "step" / "a").read_text() == "step"


@pytest.mark.parametrize("damage", ["altered", "gone", "more", "sums"])
def test_a_damaged_step_is_made_anew(damage: str, tmp_path: Path) -> None:
    """The shelf's files are links to a step's: what was damaged there must not go into the next build."""

    def make(folder: Path) -> None:
        (folder / "a").write_text("whole")

    step = steps.once(tmp_path / "step", make)
    if damage == "altered":
        (step / "a").write_text("while")
    elif damage == "more":
        (step / "b").write_text("")
    elif damage == "sums":
        (step / steps.SUMS).write_text("{")
    else:
        (step / "a").unlink()
    assert not steps.whole(step)
    assert (steps.once(step, make) / "a").read_text() == "whole"
    assert steps.whole(step)
    assert listed(tmp_path) == ["a", "step"]


def test_a_step_without_sums_is_kept(tmp_path: Path) -> None:
    """What an earlier compiler left is not made again: the runtime takes minutes. From then on its sums are known."""
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "a").write_text("old")
    assert (steps.once(tmp_path / "step", lambda _folder: None) / "a").read_text() == "old"
    (tmp_path / "step" / "a").write_text("odd")
    assert not steps.whole(tmp_path / "step")


def test_key(tmp_path: Path) -> None:
    """The key follows contents, names and order, not times; files stand for what is in them."""
    file = tmp_path / "code.py"
    file.write_text("1")
    first = steps.key("a", 1, file)
    os.utime(file, (0, 0))
    assert steps.key("a", 1, file) == first
    assert len({first, steps.key("a", 2, file), steps.key(1, "a", file)}) == 3
    file.write_text("2")
    assert steps.key("a", 1, file) != first


def test_prune(tmp_path: Path) -> None:
    """What no build used for a fortnight goes; what was just used stays."""
    for name in ("old", "new"):
        steps.once(tmp_path / name, lambda _folder: None)
    long_ago = time.time() - 20 * 86400
    os.utime(tmp_path / "old", (long_ago, long_ago))
    os.utime(tmp_path / "new", (long_ago, long_ago))
    steps.once(tmp_path / "new", lambda _folder: None)
    steps.prune(tmp_path)
    assert listed(tmp_path) == ["new"]


def test_prune_beside_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another build renames while this one looks for what is old is no failure of this one."""
    steps.once(tmp_path / "old", lambda _folder: None)
    os.utime(tmp_path / "old", (0, 0))
    (tmp_path / "moved").mkdir()
    is_dir = Path.is_dir

    def moves(path: Path) -> bool:
        found = is_dir(path)
        if path.name == "moved":
            path.rmdir()
        return found

    monkeypatch.setattr(Path, "is_dir", moves)
    steps.prune(tmp_path)
    assert listed(tmp_path) == []


def test_lock_excludes_and_is_released_by_death(tmp_path: Path) -> None:
    """A lock held elsewhere refuses us at once, and a killed holder lets go."""
    code = (
        "import sys, time; from pathlib import Path; from hybr.mlc_build import lock\n"
        "with lock.hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError), lock.hold(path, wait=False):
            pass
        process.kill()
    with lock.hold(path, wait=False):
        assert lock.alive(os.getpid())
    assert not lock.alive(process.pid)
    assert not lock.alive(None)
