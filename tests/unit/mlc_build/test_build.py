"""Whole builds: what lies on the shelf afterwards, that it repeats, and what an interruption leaves."""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import brotli
import pytest
from families import write_folder, write_gguf

from hybr.mlc_build import cli, emscripten, manifest, pack, steps, store
from hybr.mlc_build.build import build
from hybr.mlc_build.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from killed import Killer

pytestmark = pytest.mark.models

FILES = {
    "mlc-chat-config.json", "tensor-cache.json", "params_shard_0.bin", "tokenizer.json", "tokenizer_config.json",
    "model.wasm", "model-subgroups.wasm", "model-software.wasm", "tiny.gguf",
}  # fmt: skip


def run(*words: str) -> int:
    """Run `hybr models ...` and return its exit status."""
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", *words])
    return int(args.run(args))


@pytest.fixture
def fresh(home: Path, real_home: Path) -> Path:
    """An empty cache that shares nothing with the machine's but the compiled runtime."""
    (home / "runtime").symlink_to(real_home / "runtime")
    return home


def test_files(tiny: Path) -> None:
    """All that WebLLM asks for is there, verified, and what can shrink has a compressed sibling that unpacks to it."""
    found = json.loads((tiny / "manifest.json").read_text())
    assert {item["path"] for item in found["files"]} == FILES
    manifest.verify(tiny, found)
    for name in FILES:
        if name.endswith((".json", ".wasm")):
            assert brotli.decompress((tiny / f"{name}.br").read_bytes()) == (tiny / name).read_bytes()


def test_config(smollm: Path) -> None:
    """The chat configuration has no default system turn, the checkpoint's numbers and the catalogue's window."""
    config = json.loads((smollm / "mlc-chat-config.json").read_text())
    assert config["conv_template"]["system_message"] == ""
    assert config["conv_template"]["render_empty_system_message"] is False
    assert (config["vocab_size"], config["context_window_size"]) == (49152, 2048)
    assert (config["model_config"]["hidden_size"], config["model_config"]["num_hidden_layers"]) == (576, 30)
    assert config["conv_template"]["stop_token_ids"] == [2]


def test_same_bytes(tiny: Path, fresh: Path) -> None:
    """A build in another cache, from nothing, is the same revision and the same bytes."""
    stream = io.StringIO()
    again = build("tiny", stream=stream)
    assert again.is_relative_to(fresh)
    assert again.name == tiny.name
    for path in tiny.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    assert store.read("tiny")["state"] == "built"
    assert "compiling the library for gpu adapters" in stream.getvalue()


DAMAGED = (
    "params_shard_0.bin", "model-software.wasm", "model-software.wasm.br", "tensor-cache.json", "tokenizer.json",
    "tokenizer_config.json.br", "mlc-chat-config.json", "tiny.gguf", "manifest.json",
)  # fmt: skip
"""One file of each kind that a model consists of."""


def test_one_profile_damaged_and_mended(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A build for one kind of adapter has that library only; a flipped bit in any file is found, and a build mends all."""
    folder = build("tiny", profiles=("software",), stream=io.StringIO())
    assert {path.name for path in folder.glob("*.wasm")} == {"model-software.wasm"}
    whole = {path: path.read_bytes() for path in folder.iterdir()}

    def flip(name: str) -> None:
        """Flip a bit in the middle, in place: the file may be a link to a kept step's."""
        with (folder / name).open("r+b") as file:
            at = len(whole[folder / name]) // 2
            file.seek(at)
            file.write(bytes([whole[folder / name][at] ^ 1]))

    for name in DAMAGED:
        flip(name)
        assert run("verify", "tiny") == 1
        assert f"{name} " in capsys.readouterr().err
        (folder / name).write_bytes(whole[folder / name])
    assert run("verify", "tiny") == 0
    for name in DAMAGED:
        flip(name)
    assert build("tiny", profiles=("software",), stream=io.StringIO()) == folder
    assert {path: path.read_bytes() for path in folder.iterdir()} == whole
    assert run("verify", "tiny") == 0


def test_two_at_once(fresh: Path, tmp_path: Path) -> None:
    """Two builds of one checkpoint under two ids share what is the same; a second one of the same id is told of the first."""
    write_gguf(tmp_path / "small.gguf", "qwen2")
    command = [sys.executable, "-m", "hybr.server.cli", "models", "build", str(tmp_path / "small.gguf"), "--profile", "software"]
    both = [subprocess.Popen([*command, "--id", name], stderr=subprocess.PIPE, text=True) for name in ("one", "other")]
    while store.read("one")["state"] != "building" and both[0].poll() is None:
        time.sleep(0.02)
    third = subprocess.run([*command, "--id", "one"], capture_output=True, text=True, check=False)
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert third.returncode == 0 or f"one is being built by process {both[0].pid}" in third.stderr
    first, second = store.manifest("one"), store.manifest("other")
    assert first["rev"] == second["rev"]
    for kind in ("weights", "libraries"):
        assert len([path for path in (fresh / "steps" / kind).iterdir() if path.is_dir()]) == 1
    assert not list((fresh / "models").rglob("tmp-*"))


BUILD = "from hybr.mlc_build.build import build; build('tiny', profiles=('software',))"
STEPS = ("state.json", "/steps/weights", "/steps/libraries", "os.link", "manifest.json", "os.rename")
"""Words of the touches of the cache that a kill is aimed at, in a build's order."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, real_home: Path, killer: Killer) -> tuple[Path, list[str]]:
    """The cache of a build that nothing befell, and its touches. Fails with what that build said where it could not be made."""
    home = tmp_path_factory.mktemp("clean") / "home"
    home.mkdir()
    (home / "runtime").symlink_to(real_home / "runtime")
    touches = killer.run(home, BUILD)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBR_HOME", str(home))
        manifest.whole("tiny")
    return home, touches


@pytest.mark.parametrize("end", ["MissingTool", "ended with status 9"])
def test_a_build_to_compare_with_that_failed(end: str, home: Path, killer: Killer) -> None:
    """Tests that need a build which nothing befell say, when it failed or was killed from outside, why, and what it printed."""
    ending = "os.environ['PATH'] = ''" if end == "MissingTool" else "os.kill(os.getpid(), 9)"
    code = f"import os, sys; print('so far', file=sys.stderr, flush=True); {ending}; {BUILD}"
    with pytest.raises(AssertionError, match=rf"what nothing befell (failed: )?{end}(?s:.*)It said:\nso far"):
        killer.run(home, code)
    with pytest.raises(AssertionError, match=end):
        list(killer.held(home, code))


def lying(home: Path) -> dict[str, bytes]:
    """Return a cache's files, by path: all but the state, which has times, and locks, which name their holder."""
    found = (path for kind in ("models", "steps") for path in (home / kind).rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in found if not path.name.endswith((store.STATE, ".lock"))}


def finished(home: Path) -> dict[Path, tuple[int, int]]:
    """Return the files of a dead build's finished steps; what bears a final name must be whole, and what counts as built."""
    if store.read("tiny")["state"] == "built":
        manifest.verify(store.current("tiny") or home, store.manifest("tiny"))
    else:
        assert store.current("tiny") is None
    found = [path for path in (home / "steps").glob("*/*") if path.is_dir() and not path.name.startswith(steps.PREFIX)]
    for step in found:
        assert json.loads((step / steps.SUMS).read_bytes()) == steps.sums(step)
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for step in found for path in step.iterdir()}


def test_killed_in_each_step(fresh: Path, clean: tuple[Path, list[str]], killer: Killer) -> None:
    """Killed at a random touch in each of its steps, a build goes on from what was whole, and ends as one that never was."""
    chance, kills = random.Random(6), 0  # noqa: S311 - a choice that repeats
    kept: dict[Path, tuple[int, int]] = {}
    for within in STEPS:
        touches = sum(within in touch for touch in clean[1])
        kills += killer.run(fresh, BUILD, chance.randint(1, touches), within=within)[0]
        found = finished(fresh)
        assert kept.items() <= found.items(), "a step that was whole was made again"
        kept = found
    assert kills >= len(STEPS) - 1
    assert not killer.run(fresh, BUILD)[0]
    assert kept.items() <= finished(fresh).items()
    assert lying(fresh) == lying(clean[0])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("before", ["nothing", "a damaged model"])
def test_killed_at_every_touch(
    before: str, fresh: Path, clean: tuple[Path, list[str]], killer: Killer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for each touch of a build from nothing, and of one that mends; and for kills at random times."""
    home, touches = clean
    if before == "nothing":
        count = len(touches)
    else:
        copy(home, fresh, "models", "steps")
        damage(fresh)
        count = len(killer.run(fresh, BUILD)[1])
    weights = max(at for at, touch in enumerate(touches, 1) if "/steps/weights" in touch and "os.utime" in touch)
    chance = random.Random(6)  # noqa: S311 - a choice that repeats
    plans = [{"at": at} for at in range(1, count + 1)] + [{"after": chance.uniform(0, 5)} for _ in range(20)]

    def there(at: float) -> tuple[str, ...]:
        """Return what of the clean build is there: up to the weights' end the library, for that comes later and takes longest."""
        return ("models", "steps") if before != "nothing" else ("steps/libraries",) if at <= weights else ()

    killed = [befall(plan, there(plan.get("at", count)), fresh, home, killer) for plan in plans]
    assert all(killed[:count])
    with capsys.disabled():
        print(f"\n{before}: killed {count} times at a touch, {sum(killed[count:])} of 20 times at random")


def copy(home: Path, to: Path, *kinds: str) -> None:
    """Give a cache these folders of another."""
    for kind in kinds:
        shutil.copytree(home / kind, to / kind)


def damage(home: Path) -> None:
    """Alter every file of the model, and leave the kept steps (copies here) alone."""
    for file in (home / "models").rglob("*"):
        if file.is_file() and not file.name.startswith((".", store.STATE)):
            file.write_bytes(b"altered")


def befall(plan: dict[str, Any], there: tuple[str, ...], fresh: Path, home: Path, killer: Killer) -> bool:
    """Kill one build that finds this there, look, build again, and compare; say whether it was killed."""
    for kind in ("models", "steps"):
        shutil.rmtree(fresh / kind, ignore_errors=True)
    copy(home, fresh, *there)
    damage(fresh)
    killed = killer.run(fresh, BUILD, **plan)[0]
    kept = {} if "models" in there else finished(fresh)
    assert not killer.run(fresh, BUILD)[0]
    assert kept.items() <= finished(fresh).items(), plan
    assert lying(fresh) == lying(home), plan
    return killed


GPU = "from hybr.mlc_build.build import build; build('tiny', profiles=('gpu', 'subgroups'))"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_gpu_libraries_killed_at_every_touch(
    fresh: Path, clean: tuple[Path, list[str]], killer: Killer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed at each touch of the folder of libraries, one after the other with what each has left, a build ends as any other.

    The weights are there. A kill once a library is finished leaves it to the next; it is the other library's turn then.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "runtime").symlink_to((fresh / "runtime").resolve())
    for home in (whole, fresh):
        copy(clean[0], home, "steps/weights")
    touches = [touch for touch in killer.run(whole, GPU)[1] if "/steps/libraries" in touch]
    made = [at for at, touch in enumerate(touches) if touch.startswith("os.utime")]
    kills, kept = 0, finished(fresh)
    for first, last in ((0, made[0]), (made[0], made[1])):
        for at in range(1, last - first + 2):
            kills += killer.run(fresh, GPU, at, within="/steps/libraries")[0]
            now = finished(fresh)
            assert kept.items() <= now.items(), "a step that was whole was made again"
            kept = now
    assert kills > 30
    assert not killer.run(fresh, GPU)[0]
    assert kept.items() <= finished(fresh).items()
    assert lying(fresh) == lying(whole)
    with capsys.disabled():
        print(f"\ngpu libraries: killed {kills} times at a touch")


EMCC = """#!/bin/sh
# The real emcc, but for what it has compiled already: that is handed over.
for last; do :; done
kept="{folder}/$(basename "$last" .cc).o"
if [ -f "$kept" ]; then
    while [ "$1" != -o ]; do shift; done
    exec cp "$kept" "$2"
fi
exec {emcc} "$@"
"""
RUNTIME = "import os; os.environ['EMCC'] = {emcc!r}; from hybr.mlc_build import pack; pack.objects()"
TELLING = ("subprocess.Popen", steps.SUMS, "os.rename", steps.LOCK)
STAGED = 60
"""Of the other touches, over a thousand that lay out the wheels' sources and clear them away, one in so many is killed at."""


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_runtime_killed_at_every_touch(
    home: Path, real_home: Path, killer: Killer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed at any touch, and as emcc really compiles, the runtime's compilation leaves nothing that passes for its objects.

    What the real emcc made of the same sources before is handed over in its place, so that a kill costs seconds.
    """
    made = real_home / "runtime" / pack.key(emscripten.find())
    whole = {file.name: file.read_bytes() for file in made.iterdir()}
    script = tmp_path / "emcc"
    script.write_text(EMCC.format(folder=tmp_path, emcc=emscripten.find()))
    script.chmod(0o755)
    code = RUNTIME.format(emcc=str(script))

    def killed(**plan: Any) -> bool:
        """Kill one compilation, look, let the next one end, and look again."""
        dead = killer.run(home, code, **plan)[0]
        folders = [path for path in (home / "runtime").glob("*") if re.fullmatch(r"[0-9a-f]{16}", path.name)]
        assert folders in ([], [home / "runtime" / made.name])
        assert not folders or {file.name: file.read_bytes() for file in folders[0].iterdir()} == whole
        return dead

    (tmp_path / "wasm_runtime.o").write_bytes(whole["wasm_runtime.o"])  # half a minute; the others are compiled
    chance, times = random.Random(6), 8  # noqa: S311 - a choice that repeats
    random_kills = sum(killed(after=chance.uniform(0, 4)) for _ in range(times))  # what emcc has begun goes on without us
    assert not killed()
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    shutil.rmtree(home / "runtime")
    touches = killer.run(home, code)[1]
    chosen = [at for at, touch in enumerate(touches, 1) if any(word in touch for word in TELLING) or made.name in touch]
    chosen += [*range(1, 10), *range(10, len(touches), STAGED), *range(len(touches) - 10, len(touches) + 1)]
    for at in sorted(set(chosen)):
        shutil.rmtree(home / "runtime")
        assert killed(at=at)
        assert not killed()
    with capsys.disabled():
        told = f"killed {len(set(chosen))} times at one of {len(touches)} touches, {random_kills} of {times} at random"
        print(f"\nthe runtime: {told}")


FULL = {"/steps/weights": (4, 60, 200), "/steps/libraries": (2800,)}
MORE = {"/steps/weights": range(0, 240, 12), "/steps/libraries": range(0, 5200, 260)}
"""Kilobytes that are still free as a build comes to a step, too few for it."""


@pytest.mark.parametrize("sizes", [pytest.param(MORE, marks=pytest.mark.long), FULL], ids=["every", "some"])
def test_full_disk(
    sizes: dict[str, Sequence[int]],
    small_disk: Path,
    clean: tuple[Path, list[str]],
    killer: Killer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that fills up in any step is said so with the remedy; nothing half counts as whole; with room, it is built."""
    monkeypatch.setenv("HYBR_HOME", str(small_disk))
    home, hit = clean[0], list[str]()
    (small_disk / "runtime").symlink_to((home / "runtime").resolve())

    def fails(room: int) -> bool:
        """Build with so many kilobytes free, and look at what is left when it fails."""
        resize(small_disk, room)
        *touches, told = killer.run(small_disk, BUILD, fails=True)[1]
        if not told.startswith("failed: "):
            return False
        assert re.match(r"failed: DiskFull\(.no space left for .*small.*HYBR_HOME", told), (room, told)
        assert store.current("tiny") is None
        assert store.read("tiny")["state"] in {"failed", "missing"}
        finished(small_disk)
        assert not list(small_disk.glob("[ms]*/**/tmp-*")), (room, told)
        wrote = (touch for touch in reversed(touches) if touch.startswith(("open", "sub")) and store.STATE not in touch)
        hit.append(next(wrote, ""))
        return True

    for step, rooms in sizes.items():
        assert all(fails(room) for room in rooms)
        assert any(step in touch for touch in hit)
        resize(small_disk, 20_000)
        shutil.copytree(home / step[1:], small_disk / step[1:], dirs_exist_ok=True)
    least = sum(file.stat().st_size // 1024 for file in (home / "models").rglob("*") if file.stat().st_nlink == 1)
    rooms = [0, 4, least // 2, *range(least - 8, least + 200, 4)]
    assert next(room for room in rooms if not fails(room)) > least
    assert {"tiny.gguf", store.MANIFEST} <= {touch.rsplit("/", 1)[-1] for touch in hit}
    assert lying(small_disk) == lying(home)


def resize(disk: Path, room: int) -> None:
    """Leave so many kilobytes free."""
    used = shutil.disk_usage(disk).used // 1024
    subprocess.run(["mount", "-o", f"remount,size={max(used + room, 4)}k", disk], check=True)


def test_full_temporary_folder(small_disk: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LLVM writes its objects there is no room: said so with the remedy, and not with the end of the process."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(DiskFull, match=r"no space left for .*small.*TMPDIR"):
        build("tiny", profiles=("software",), stream=io.StringIO())
    assert store.read("tiny")["error"]["code"] == "disk-full"


def test_a_persons_own_folder(fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Qwen3 in Hugging Face's layout is built from its path, inspected by its id, and says what it is; twice the same bytes."""
    write_folder(tmp_path / "My Qwen", "qwen3", dtype="BF16", shards=2)
    (tmp_path / "My Qwen" / "README.md").write_text("---\nlicense: mit\nbase_model: someone/Qwen\n---\n")
    words = ["build", str(tmp_path / "My Qwen"), "--context", "200", "--prefill-chunk", "64", "--profile", "software"]
    assert run(*words) == 0
    folder = store.current("my-qwen-q4e8f32-1")
    assert folder is not None
    found = json.loads((folder / "manifest.json").read_text())
    assert (found["family"], found["context"], found["quantisation"], found["repacked"]) == ("qwen3", 200, "q4e8f32_1", False)
    assert (found["licence"], found["origin"]) == ("MIT", "My Qwen, made of someone/Qwen")
    told = json.loads((folder / "mlc-chat-config.json").read_text())
    assert (told["model_type"], told["context_window_size"], told["prefill_chunk_size"]) == ("qwen3", 200, 64)
    assert told["conv_template"]["stop_token_ids"] == [2]
    assert run("inspect", "my-qwen-q4e8f32-1") == 0
    assert "qwen3, q4e8f32_1" in capsys.readouterr().out
    assert run(*words, "--id", "other") == 0
    assert store.current("other").name == folder.name  # type: ignore[union-attr] - it was just built


def test_a_persons_own_gguf(fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A GGUF outside the catalogue is built from its path in the quantisation asked for; what became of its blocks is said."""
    write_gguf(tmp_path / "small.gguf", "phi3", packed="Q4_0")
    assert run("build", str(tmp_path / "small.gguf"), "--quant", "q0f32", "--profile", "software", "--id", "phi") == 0
    found = store.manifest("phi")
    assert (found["family"], found["quantisation"], found["context"]) == ("phi3", "q0f32", 512)
    assert "the checkpoint's own blocks: 10 in Q4_0 unpacked exactly (float)\n" in capsys.readouterr().err


def test_halves_are_for_devices_that_have_them(fresh: Path, tmp_path: Path) -> None:
    """A Gemma 3 of halves has the gpu libraries alone and asks for shader-f16; built again from nothing, it is the same bytes."""
    write_gguf(tmp_path / "gemma.gguf", "gemma3")
    words = ("build", str(tmp_path / "gemma.gguf"), "--quant", "q4f16_1", "--id", "gemma")
    assert run(*words) == 0
    first = store.manifest("gemma")
    assert (first["family"], first["features"]) == ("gemma3_text", ["shader-f16"])
    assert [item["path"] for item in first["files"] if item["path"].endswith(".wasm")] == ["model-subgroups.wasm", "model.wasm"]
    shutil.rmtree(fresh / "steps")
    shutil.rmtree(fresh / "models")
    assert run(*words) == 0
    assert store.manifest("gemma")["rev"] == first["rev"]
    assert run(*words, "--profile", "software") == 1
