"""An event loop on virtual time: `sleep(3600)` costs nothing, and the order of timers is exact and repeatable."""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class DeadlockError(Exception):
    """Everybody waits and nothing will ever happen."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting for `timeout` seconds, moves the clock on by them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """No file is ever waited for."""
        if timeout is None:
            raise DeadlockError("nothing is scheduled and nobody can go on")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def jump(self, seconds: float) -> None:
        """The clock goes on and nothing runs, as while a machine sleeps."""
        self._virtual.now += seconds

    def time(self) -> float:
        """Virtual seconds since the loop began."""
        return self._virtual.now


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` on a loop of its own; tasks that it left behind fail the test."""

    async def checked() -> Any:
        result = await work
        for _ in range(20):
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks were left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(checked())


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run on virtual time."""

    @functools.wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return wrapped
