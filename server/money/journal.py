"""What was used and is not in the store yet, on this machine's disk: written before the answer's last bytes go out.

The kernel keeps what was written when the process is killed, so an answer that a client has seen to its end is in the ledger, at
the latest after the next start. A power cut can lose a second of it; budgets are safe even then, for leases are in the store.

`<process>-<number>.journal` is one piece, a line of JSON a change, read by whoever next finds its process dead: the lock on
`<process>.lock` says whether it lives. A disk that cannot be written costs this safety and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from hybr.server.money.ledger import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hybr.server.money.ledger import Key

log = logging.getLogger("hybr.money")
KNOWN = 1000  # rows and budgets whose JSON is remembered
encode = json.JSONEncoder(separators=(",", ":")).encode


class Line(NamedTuple):
    """One change, and the budgets that its cost is out of."""

    entry: Entry
    keys: tuple[Key, ...]


class Journal:
    """The pieces of this process in `folder`; nothing is made before the first line."""

    def __init__(self, folder: Path, process: str) -> None:
        self.folder = folder
        self.process = process
        self._number = 0
        self._file: int | None = None
        self._lock: int | None = None
        self._broken = False
        self._known: dict[tuple[Any, ...], str] = {}

    @property
    def piece(self) -> str:
        """The name of the piece that is being written."""
        return f"{self.process}-{self._number}"

    def write(self, entry: Entry, keys: Sequence[Key]) -> None:
        """Add one line, in one write."""
        if self._broken:
            return
        line = f"{self._spelt(entry[:4])[:-1]},{','.join(map(str, entry[4:]))},{self._spelt(tuple(keys))}]\n"
        try:
            if self._file is None:
                self._file = self._open()
            os.write(self._file, line.encode())
        except OSError as error:
            log.warning("the journal of what was spent cannot be written (%s); a crash may lose a second of it", error.strerror)
            self._broken = True

    def _spelt(self, names: tuple[Any, ...]) -> str:
        """Return names as JSON; they come again with every answer, and their spelling is half of a line's cost."""
        found = self._known.get(names)
        if found is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            found = self._known[names] = encode(names)
        return found

    def _open(self) -> int:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is None:
            # Under its name only once it is locked, or a neighbour could take us for dead in between.
            new, path = self.folder / f".{self.process}.new", self.folder / f"{self.process}.lock"
            self._lock = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            new.rename(path)
        path = self.folder / f"{self.piece}.journal"
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def turn(self) -> str:
        """Begin a new piece and return the name of the finished one."""
        name = self.piece
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._number += 1
        self._broken = False  # the disk may have room again
        return name

    def done(self, name: str) -> None:
        """Throw a piece away, for the store has it; one that stays does no harm, for the store knows its name."""
        try:
            (self.folder / f"{name}.journal").unlink(missing_ok=True)
        except OSError as error:
            log.warning("a settled piece of the journal cannot be removed (%s)", error.strerror)

    def close(self) -> None:
        """End the process's writing; its pieces that are left are for whoever comes next."""
        self.turn()
        if self._lock is not None:
            if not any(self.folder.glob(f"{self.process}-*.journal")):
                (self.folder / f"{self.process}.lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def orphans(self) -> Iterator[Orphan]:
        """Yield each dead process's pieces, held so that nobody else reads them at the same time."""
        for path in sorted(self.folder.glob("*.lock")):
            if path.stem == self.process:
                continue
            try:
                lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield Orphan(path)
            except BlockingIOError:
                pass  # it lives
            finally:
                os.close(lock)


class Orphan:
    """What a dead process left."""

    def __init__(self, lock: Path) -> None:
        self.lock = lock
        self.process = lock.stem

    def pieces(self) -> list[Path]:
        """Return its pieces in the order of their writing."""
        found = self.lock.parent.glob(f"{self.process}-*.journal")
        return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))

    def bury(self) -> None:
        """Remove what says that it ever was."""
        self.lock.unlink(missing_ok=True)


def read(path: Path) -> list[Line]:
    """Return the lines of a piece; one that the end of its process cut short was never acknowledged."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            *fields, keys = json.loads(line)
            found.append(Line(Entry(*fields), tuple((scope, period) for scope, period in keys)))
        except (ValueError, TypeError):
            continue
    return found
