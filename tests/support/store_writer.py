"""Processes that write preferences until they are killed: each line one says is a version that it would have acknowledged.

For each line `FOLDER<tab>URL` this forks a writer, says its pid, and says `end` once it is dead.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

# Imported before the fork: a writer begins within milliseconds.
import hybr.server.store.engine
import hybr.server.store.migrate  # noqa: F401
from hybr.server.preferences import load, save
from hybr.server.secret import Secret
from hybr.server.store.database import Database


async def write(database: Database) -> None:
    """Write, and say so after each commit."""
    async with database.begin() as connection:
        start = (await load(connection, "local"))["version"]
    for version in itertools.count(start):
        async with database.begin() as connection:
            await save(connection, "local", version, {"model": f"m{version + 1}"})
        os.write(1, f"{version + 1}\n".encode())


def main() -> None:
    """Fork one writer a line, until there are no more lines."""
    for line in sys.stdin:
        folder, _, url = line.rstrip("\n").partition("\t")
        pid = os.fork()
        if pid == 0:
            os.write(1, f"{os.getpid()}\n".encode())
            asyncio.run(write(Database(Path(folder), Secret(url) if url else None)))
        os.waitpid(pid, 0)
        os.write(1, b"end\n")


if __name__ == "__main__":
    main()
