"""The server's half of the bond of `hybr.server.child`: start a child in a group of its own, and end it whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE = 1024 * 1024  # a child's line of output may be this long, in bytes


class Child:
    """A running child process. Its standard output is ours to read, its standard error goes where ours goes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, module: str, arguments: Sequence[str] = (), *, nice: int = 0) -> Child:
        """Start `python -m module arguments...`, bound to this process and `nice` steps below its priority."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hybr.server.child",
            str(nice),
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def line(self) -> bytes:
        """Return the next line of its output, empty once it has closed it."""
        assert self.process.stdout is not None  # noqa: S101  asked for in `start`
        return await self.process.stdout.readline()

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await self.process.wait()

    async def stop(self) -> None:
        """End it and everything it started, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()
