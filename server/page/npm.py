"""Where the page's npm packages are: in the source tree, in the cache, or put there now."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from hybr.server import paths
from hybr.server.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path


def folder() -> Path:
    """Return the `node_modules` that holds what static/package-lock.json names, installing it when it is nowhere.

    `server/bootstrap.py` installs into the same place under the same name; this is for an installed wheel, where
    nobody ran it. Raises BuildError when npm is missing or fails.
    """
    static = paths.package("static")
    lock = static / "package-lock.json"
    linked = static / "node_modules"
    if (linked / "pyodide" / "package.json").exists():
        return linked.resolve()
    target = paths.home() / "npm" / hashlib.sha256(lock.read_bytes() + b"\0").hexdigest()[:16]
    if not (target / ".stamp").exists():
        install(target, static)
    return target / "node_modules"


def install(target: Path, static: Path) -> None:
    """Run `npm ci` on copies of the lock in `target`."""
    if not (npm := shutil.which("npm")):
        raise BuildError("npm is needed once to fetch the page's packages, and there is none on the PATH")
    target.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(static / name, target / name)
    result = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise BuildError(f"npm could not fetch the page's packages: {result.stderr.strip()[-600:]}")
    (target / ".stamp").write_text(target.name)
