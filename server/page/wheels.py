"""Panel, Bokeh and what they need, as the wheels that `requirements.lock` names by hash.

The page's Python is 3.14, whatever runs the server, so pip is asked for that version's wheels. Two of them (markupsafe,
pyyaml) exist as platform wheels only; their pure-Python halves are whole, and `parts` leaves the compiled half out.
One fixed platform is asked for on every machine, so that the bytes are the same everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hybr.server import paths
from hybr.server.errors import BuildError

from . import digest

LOCK = Path(__file__).with_name("requirements.lock")
PYTHON = "3.14"
PLATFORM = "manylinux2014_x86_64"


def names() -> list[str]:
    """Return the locked `name==version` lines."""
    return [line.split()[0] for line in LOCK.read_text().splitlines() if "==" in line]


def fetch() -> list[Path]:
    """Return the wheels, downloading them when they are not in the cache.

    Raises BuildError when pip cannot fetch them or a hash differs.
    """
    folder = paths.home() / "page" / "wheels" / digest.of(LOCK.read_bytes())
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder.parent))
        try:
            download(partial)
            partial.chmod(0o755)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another build was quicker
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return sorted(folder.glob("*.whl"))


def download(folder: Path) -> None:
    """Let pip download the locked wheels into `folder`, verified by hash."""
    wanted = ["--only-binary", ":all:", "--python-version", PYTHON, "--platform", PLATFORM, "--implementation", "cp"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        *wanted,
        "--dest",
        str(folder),
    ]
    result = subprocess.run([*command, "-r", str(LOCK)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.startswith(("ERROR", "/"))] or result.stderr.splitlines()
        raise BuildError(f"pip could not fetch the page's packages ({', '.join(names())}): {' '.join(lines[-3:])}")
