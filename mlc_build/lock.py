"""One holder at a time, between processes. The kernel lets go when the holder dies, so nothing goes stale."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def hold(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path` (made when missing) inside the block.

    Any number may hold it `shared`, and nobody else then. Raises BlockingIOError at once when another process holds it and
    `wait` is false. The file stays: removing it would let a third process lock a file that the second no longer sees.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def alive(pid: object) -> bool:
    """Say whether a process with this id runs."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
