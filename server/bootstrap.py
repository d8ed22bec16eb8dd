"""Set up everything the Makefile's targets need, on a machine that has only python3, Node and git.

Run by the system's python3 before any dependency exists, so it uses the standard library alone. Each step is skipped
when the hash of its inputs equals the stamp left by its last success, which is what makes a second `make run` instant
and an interrupted first one resumable.

    python3 server/bootstrap.py
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PARTS = ("server", "webapp", "mlc_build", "static")
UV = "uv==0.13.9"
# Debian package -> the command that shows it is there: the models' linker, a browser to open the page and to test it with, and
# the second database of the store's tests (their own cluster; `psql` is the one of its commands that Debian puts on the PATH).
APT = {"emscripten": "emcc", "chromium": "chromium", "postgresql": "psql"}
NODE = 20  # the page's packages and the test driver want it; Debian 12's own is older


def say(text: str) -> None:
    """Print one line of progress at once, even through a pipe."""
    print(f"[setup] {text}", flush=True)


def digest(*parts: Path | str) -> str:
    """Return a hash over the files' contents and the strings, 16 hex digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


def home() -> Path:
    """Return the cache folder; the same rule as `server.paths.home`, without platformdirs (not installed yet)."""
    if value := os.environ.get("HYBR_HOME"):
        return Path(value).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hybr"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybr"


def step(name: str, stamp: Path, want: str, work: Callable[[], None]) -> None:
    """Run `work` unless `stamp` already holds `want`; write the stamp only after success."""
    if stamp.exists() and stamp.read_text() == want:
        return
    say(f"{name} ...")
    begin = time.monotonic()
    work()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(want)
    say(f"{name}: {time.monotonic() - begin:.1f} s")


def absent() -> list[str]:
    """Return the Debian packages that this machine lacks."""
    missing = [name for name, command in APT.items() if not shutil.which(command)]
    # Debian splits ensurepip off python3; without it `python3 -m venv` fails half-way.
    return missing if importlib.util.find_spec("ensurepip") else ["python3-venv", *missing]


def apt() -> None:
    """Install the missing Debian packages when root; otherwise print the one line that would, and go on."""
    missing = absent()
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(line)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = ["-qq", "-o=Dpkg::Use-Pty=0"]
        subprocess.run(["apt-get", *quiet, "update"], check=False, env=env)
        subprocess.run(["apt-get", *quiet, "install", "-y", "--no-install-recommends", *missing], check=False, env=env)
        missing = absent()
    if missing:
        say(f"missing: {', '.join(missing)}. Everything else goes on. To add them: sudo {line}")


def python() -> None:
    """Create the virtual environment, install the locked packages, and link the source tree into it."""
    venv_python = VENV / "bin" / "python"
    lock = ROOT / "requirements.lock"

    def install() -> None:
        if not venv_python.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
            subprocess.run([str(venv_python), "-m", "pip", "install", "--quiet", UV], check=True)
        subprocess.run(
            [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(venv_python), "--require-hashes", "-r", str(lock)],
            check=True,
        )

    step("python packages", VENV / ".lock-stamp", digest(lock, sys.version, UV), install)
    link_tree()


def link_tree() -> None:
    """Make `import hybr.server` and the `hybr` command work from the source tree.

    The wheel maps `server/` to `hybr/server` and so on; no build backend offers that mapping for editable installs in
    a form type checkers follow, so a folder of links on the path stands in for it.
    """
    packages = VENV / "dev" / "hybr"
    packages.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        link = packages / part
        if not link.is_symlink() or link.resolve() != ROOT / part:
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / part)
    site = next((VENV / "lib").glob("python3.*")) / "site-packages"
    (site / "hybr-dev.pth").write_text(f"{packages.parent}\n")
    command = VENV / "bin" / "hybr"
    command.write_text(f"{begun_by(VENV / 'bin' / 'python')}\nimport sys\nfrom hybr.server.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)


def begun_by(program: Path) -> str:
    """Return a script's first lines, which have `program` run it; the kernel's own way takes no blanks and no long paths."""
    if " " not in str(program) and len(str(program)) < 120:
        return f"#!{program}"
    return f"#!/bin/sh\n'''exec' \"{program}\" \"$0\" \"$@\"\n' '''"  # to the shell a command, to Python a string


def npm() -> None:
    """Install the page's npm packages into the cache and link them where editors and tsc look."""
    lock = ROOT / "static" / "package-lock.json"
    key = digest(lock)
    folder = home() / "npm" / key

    def install() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(lock.with_name(name), folder / name)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)

    step("npm packages", folder / ".stamp", key, install)
    link = ROOT / "static" / "node_modules"
    if not link.is_symlink() or link.resolve() != (folder / "node_modules").resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(folder / "node_modules")


def node() -> int:
    """Return Node's major version, 0 where there is none (or no npm)."""
    if not (shutil.which("node") and shutil.which("npm")):
        return 0
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(told.strip().lstrip("v").split(".")[0] or 0)


def main() -> int:
    """Set up and return an exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036  run by whatever python3 the machine has
        print("HYBR needs Python 3.11 or newer; this is", sys.version.split()[0], file=sys.stderr)
        return 1
    if (found := node()) < NODE:
        there = f"this is Node {found}" if found else "there is none on the PATH"
        print(f"HYBR needs Node {NODE} or newer with npm; {there}", file=sys.stderr)
        return 1
    apt()
    python()
    npm()
    return 0


if __name__ == "__main__":
    sys.exit(main())
