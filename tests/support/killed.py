"""A process killed with SIGKILL as it touches its cache for the n-th time.

`Killer` drives one process that has the compiler loaded and forks a child for each run (this file, run as a script): a run then
costs what the build costs and no start of TVM. The child counts its touches in an audit hook: a file opened for writing, a
rename, a link, a removal, a change of times, a program started. It dies as the n-th begins; a file that was being opened is
left empty, as a kill just after the opening leaves it.

A child can also be held (`Killer.held`): it stops as each touch begins, or each reading of a file, and the test looks at what
others see then, or changes what it reads. Nothing sleeps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

TOUCHES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "subprocess.Popen"}
LOADED = "import httpx; from hybr.mlc_build import build, cli, compile, lower, mirror, share, store"


class Killer:
    """The process that forks. Used as a context manager."""

    def __enter__(self) -> Self:
        """Start it."""
        self._driver = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let it end."""
        self._driver.communicate()

    def run(
        self, home: Path, code: str, at: int | None = None, *, within: str = "", after: float | None = None, fails: bool = False
    ) -> tuple[bool, list[str]]:
        """Run code with `home` as $HYBR_HOME; return whether it was killed, and the touches it came to.

        Args:
            home: the cache.
            code: Python.
            at: the touch to die at, from 1; None: none.
            within: count only touches with these words in their description.
            after: seconds to die after, whatever it does then.
            fails: the code may raise: what it raised stands after the last touch.

        Raises AssertionError, with what the code raised and printed, when it failed and may not.

        """
        self._ask({"home": str(home), "code": code, "at": at, "within": within, "after": after})
        told = self._told()
        killed = told["status"] == signal.SIGKILL and (at, after) != (None, None)
        if told["status"] and not killed and not fails:
            raise AssertionError(self._why(home, told))
        return killed, list(told["touches"])

    def held(self, home: Path, code: str, *, within: str = "", reads: bool = False) -> Iterator[str]:
        """Run code as `run` does; give each touch as it begins, while the process stands still. It goes on with the next one.

        Args:
            home: the cache.
            code: Python.
            within: stop only at touches with these words in their description.
            reads: stop as files of the cache are opened for reading, too.

        Raises AssertionError when the code failed. A child that is not heard to its end is killed.

        """
        self._ask({"home": str(home), "code": code, "at": None, "within": within, "after": None, "hold": True, "reads": reads})
        told = self._told()
        try:
            while "held" in told:
                yield told["held"]
                self._ask("go")
                told = self._told()
        finally:
            if "held" in told:
                self._ask("kill")
                self._told()
        if told["status"]:
            raise AssertionError(self._why(home, told))

    def _ask(self, asked: object) -> None:
        assert self._driver.stdin is not None
        self._driver.stdin.write(json.dumps(asked) + "\n")
        self._driver.stdin.flush()

    def _told(self) -> dict[str, Any]:
        assert self._driver.stdout is not None
        line = self._driver.stdout.readline()
        assert line, f"the process that forks ended with status {self._driver.wait()}: is the build extra installed?"
        return dict(json.loads(line))

    def _why(self, home: Path, told: dict[str, Any]) -> str:
        """Return how a child failed: its exception or signal, and the last of what it printed."""
        *_, last = ["", *told["touches"]]
        how = last if last.startswith("failed: ") else f"ended with status {told['status']}, unasked, at: {last}"
        said = Path(f"{home}.said").read_text(encoding="utf-8", errors="replace")
        return f"what nothing befell {how}\nIt said:\n{said[-4000:]}"


def _touch(home: str, event: str, args: tuple[Any, ...], *, reads: bool = False) -> str:
    """Return what an audit event does to the cache; nothing for one that leaves it alone, or only `reads`."""
    path = args[0] if args else ""
    if event == "open" and isinstance(args[2], int) and (reads or args[2] & (os.O_WRONLY | os.O_RDWR)):
        word = "open" if args[2] & (os.O_WRONLY | os.O_RDWR) else "read"
        return f"{word} {path}" if str(path).startswith(home) else ""
    if event == "os.mkdir" and Path(path).exists():
        return ""
    beside = event in {"os.remove", "os.rmdir"} and args[-1] != -1  # in a folder that is open: rmtree
    return f"{event} {args[:2]}" if event in TOUCHES and (beside or home in str(args)) else ""


def _child(asked: dict[str, Any], out: int) -> None:
    home, at, within, seen, busy = asked["home"], asked["at"], asked["within"], 0, False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen, busy
        if busy or not (told := _touch(home, event, args, reads=asked.get("reads", False))):
            return
        seen += within in told
        os.write(out, (json.dumps(told.replace(home, "")) + "\n").encode())
        if asked.get("hold") and within in told:
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, which could otherwise run on a while
        if seen == at and within in told:
            busy = True
            if event == "open" and args[2] & os.O_TRUNC:
                os.close(os.open(args[0], os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644))
            os.kill(os.getpid(), signal.SIGKILL)

    os.environ["HYBR_HOME"] = home
    sys.addaudithook(hook)
    exec(asked["code"], {})  # noqa: S102 - the test's own


def _serve() -> None:
    exec(LOADED)  # noqa: S102 - ours
    for line in sys.stdin:
        asked = json.loads(line)
        touches = Path(asked["home"] + ".touches")
        out = os.open(touches, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(os.open(asked["home"] + ".said", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644), 2)
                os.dup2(2, 1)
                _child(asked, out)
                sys.stdout.flush()
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 - told to the test
                os.write(out, (json.dumps(f"failed: {error!r}") + "\n").encode())
                os._exit(1)
        os.close(out)
        if asked["after"] is not None:
            time.sleep(asked["after"])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = _wait(pid, touches)
        print(
            json.dumps({"status": status, "touches": [json.loads(told) for told in touches.read_text().splitlines()]}), flush=True
        )


def _wait(pid: int, touches: Path) -> int:
    """Return a child's status; where it stands still, tell the test and do with it as that says."""
    while os.WIFSTOPPED(status := os.waitpid(pid, os.WUNTRACED)[1]):
        print(json.dumps({"held": json.loads(touches.read_text().splitlines()[-1])}), flush=True)
        go = json.loads(sys.stdin.readline()) == "go"
        os.kill(pid, signal.SIGCONT if go else signal.SIGKILL)
    return status


if __name__ == "__main__":
    _serve()
