"""A process killed with SIGKILL as it touches its cache for the n-th time.

`Killer` drives one process that has the compiler loaded and forks a child for each run (this file, run as a script): a run then
costs what the build costs and no start of TVM. The child counts its touches in an audit hook: a file opened for writing, a
rename, a link, a removal, a change of times, a program started. It dies as the n-th begins; a file that was being opened is
left empty, as a kill just after the opening leaves it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

TOUCHES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "subprocess.Popen"}
LOADED = "import hybr.mlc_build.build, hybr.mlc_build.compile, hybr.mlc_build.mirror, hybr.mlc_build.lower, hybr.mlc_build.store"


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

        Raises AssertionError when the code failed and may not.

        """
        asked = {"home": str(home), "code": code, "at": at, "within": within, "after": after}
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(asked) + "\n")
        self._driver.stdin.flush()
        told = json.loads(self._driver.stdout.readline())
        killed = told["status"] == signal.SIGKILL
        assert told["status"] == 0 or killed or fails, told
        return killed, list(told["touches"])


def _touch(home: str, event: str, args: tuple[Any, ...]) -> str:
    """Return what an audit event does to the cache; nothing for one that leaves it alone."""
    path = args[0] if args else ""
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        return f"open {path}" if str(path).startswith(home) else ""
    if event == "os.mkdir" and Path(path).exists():
        return ""
    beside = event in {"os.remove", "os.rmdir"} and args[-1] != -1  # in a folder that is open: rmtree
    return f"{event} {args[:2]}" if event in TOUCHES and (beside or home in str(args)) else ""


def _child(asked: dict[str, Any], out: int) -> None:
    home, at, within, seen, busy = asked["home"], asked["at"], asked["within"], 0, False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen, busy
        if busy or not (told := _touch(home, event, args)):
            return
        seen += within in told
        os.write(out, (json.dumps(told.replace(home, "")) + "\n").encode())
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
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                _child(asked, out)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 - told to the test
                os.write(out, (json.dumps(f"failed: {error!r}") + "\n").encode())
                os._exit(1)
        os.close(out)
        if asked["after"] is not None:
            time.sleep(asked["after"])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        print(
            json.dumps({"status": status, "touches": [json.loads(told) for told in touches.read_text().splitlines()]}), flush=True
        )


if __name__ == "__main__":
    _serve()
