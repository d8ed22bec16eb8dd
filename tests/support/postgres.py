"""A private PostgreSQL for the tests: a cluster of its own in a temporary folder, gone at the end of the session.

It listens on a Unix socket in that folder and on no port. PostgreSQL refuses to run as root, so root starts it as `nobody`. Where
it cannot be started the tests fail with the remedy: half a test of the store, skipped in silence, is none.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

REMEDY = "install it with `apt-get install postgresql` (server/bootstrap.py does)"
QUICK = {
    "fsync": "off",  # a power cut is not among the faults that tests make; a kill is, and survives without
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


class Cluster:
    """One running PostgreSQL. `restart` and `stop` are faults that tests make."""

    def __init__(self) -> None:
        self.bin = programs()
        # Short, for a Unix socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="hybr-pg-", dir="/tmp"))
        self.other = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self.other:
            os.chown(self.folder, self.other.pw_uid, self.other.pw_gid)
        data = str(self.folder / "data")
        self.run("initdb", "-D", data, "-U", "hybr", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        settings = "".join(f"{name} = {value}\n" for name, value in QUICK.items())
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"{settings}unix_socket_directories = '{self.folder}'\n")
        self.start()

    def run(self, program: str, *words: str, check: bool = True) -> str:
        """Run one of PostgreSQL's programs as the user who owns the cluster and return what it printed."""
        command = [str(self.bin / program), *words]
        if self.other:
            who = [f"--reuid={self.other.pw_uid}", f"--regid={self.other.pw_gid}", "--clear-groups"]
            command = ["setpriv", *who, "--", *command]
        env = {**os.environ, "LC_ALL": "C", "HOME": str(self.folder)}
        # Files, not pipes: the server inherits them and would keep a pipe open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(command, stdout=out, stderr=out, cwd="/", env=env, check=False, timeout=120)
            out.seek(0)
            told = out.read()
        if check and done.returncode:
            raise RuntimeError(f"{program} failed ({done.returncode}): {told[-800:]}")
        return told

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-l", str(self.folder / "log"), "start")

    def stop(self, how: str = "immediate") -> None:
        """Stop it: `fast` ends connections politely, `immediate` is its kill -9."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", how, "stop", check=False)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as the superuser and return its unadorned rows."""
        words = ["-h", str(self.folder), "-U", "hybr", "-d", database, "-v", "ON_ERROR_STOP=1", "-qAtc", statement]
        return self.run("psql", *words).strip()

    def fresh(self) -> str:
        """Make an empty database and return its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://hybr@/{name}?host={self.folder}"

    def drop(self, url: str) -> None:
        """Drop a database that `fresh` made, connections or not."""
        self.sql(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def end(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def name_of(url: str) -> str:
    """Return the database's name in a URL of `fresh`."""
    return url.partition("@/")[2].partition("?")[0]


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. Raises RuntimeError with the remedy."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    plain = shutil.which("initdb")
    if not found and not plain:
        raise RuntimeError(f"the store's tests need PostgreSQL: {REMEDY}")
    return found[-1].parent if found else Path(plain or "").resolve().parent
