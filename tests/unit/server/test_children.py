"""The bond between the server and its children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybr.server.children import Child

# A child that has a child of its own, and tells both ids.
FAMILY = """
import os, subprocess, sys
inner = subprocess.Popen(["sleep", "600"])
print(os.getpid(), inner.pid, os.nice(0), repr(sys.stdin.read()), sys.argv[1:], flush=True)
inner.wait()
"""
PARENT = """
import asyncio
from hybr.server.children import Child
async def main():
    child = await Child.start("family", ["a b"], nice=3)
    print((await child.line()).decode(), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `python -m family` run FAMILY."""
    (tmp_path / "family.py").write_text(FAMILY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def gone(pid: int) -> bool:
    """Say whether no such process runs (one that waits to be reaped does not run)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(*pids: int) -> None:
    """Wait until none of `pids` runs."""
    end = time.monotonic() + 60
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < end, [pid for pid in pids if not gone(pid)]
        time.sleep(0.01)


@pytest.mark.usefixtures("family")
def test_killed_with_the_parent() -> None:
    """When the parent is killed with -9, the child and the child's child end too."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child, inner, nice, stdin, arguments = parent.stdout.readline().split(maxsplit=4)
    assert (nice, stdin, arguments.strip()) == ("3", "''", "['a b']")
    assert not gone(int(child))
    parent.kill()
    parent.wait()
    wait_gone(int(child), int(inner))
    parent.stdout.close()


@pytest.mark.usefixtures("family")
async def test_stopped_whole() -> None:
    """`stop` ends the whole group, and can be called again."""
    child = await Child.start("family")
    pid, inner = (int(word) for word in (await child.line()).split()[:2])
    assert (child.pid, child.running) == (pid, True)
    await child.stop()
    await child.stop()
    assert not child.running
    await asyncio.to_thread(wait_gone, pid, inner)


async def test_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's own end is seen with its code."""
    (tmp_path / "ends.py").write_text("import sys; sys.exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = await Child.start("ends")
    assert await child.line() == b""
    assert await child.wait() == 7


def test_not_the_callers_group() -> None:
    """Run by hand, without a group of its own, the child ends alone: it never kills the shell it was started from."""
    run = subprocess.run(
        [sys.executable, "-m", "hybr.server.child", "0", "timeit", "-n1", "-r1", "__import__('time').sleep(5)"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    os.kill(os.getpid(), signal.SIG_DFL)  # we are still here
