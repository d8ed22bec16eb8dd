"""A Vulkan device for machines without a graphics card that has shader-f16 and subgroups: Mesa's lavapipe 25.

Chromium's SwiftShader has no shader-f16, and Debian 12's own lavapipe (22) has not either; the one of its backports has. It is
put into the cache and not installed, pinned by version and sha256, from the archive that this machine's apt reads anyway.

    PYTHONPATH=tests/support .venv/bin/python -m lavapipe

Nothing is fetched where VK_DRIVER_FILES or VK_ICD_FILENAMES names another driver.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from hybr.mlc_build import steps
from hybr.server import paths

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = "bookworm"
PACKAGES = {
    "mesa-vulkan-drivers": (
        "25.0.7-2~bpo12+1",
        "3899f1800424c60a05df5d6913076a526ca8fdbabec43672cd397563d1ca3263",
    ),
    "libvulkan1": (
        "1.3.239.0-1",
        "622f28b807ba55a1f5ad1622ff83aa2c5b11fedbec074850e04c10a8f28b43d3",
    ),
}
LIBRARIES = ("libvulkan_lvp.so", "libvulkan.so.1")
NAMED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
SECONDS = 60


def folder() -> Path:
    """Return where it is unpacked, or would be."""
    return paths.home() / "lavapipe" / steps.key(PACKAGES, LIBRARIES)


def environment() -> dict[str, str]:
    """Return the variables by which Vulkan finds it; none where it is not here or another driver is named."""
    if any(name in os.environ for name in NAMED) or not folder().is_dir():
        return {}
    return dict.fromkeys(NAMED, str(folder() / "driver.json")) | {"LD_LIBRARY_PATH": str(folder())}


def fetch() -> str:
    """Put it there where it is not yet, and return why that cannot be done; nothing where it could, or need not."""
    if any(name in os.environ for name in NAMED):
        return ""
    try:
        steps.once(folder(), _make)
    except (OSError, subprocess.SubprocessError, LookupError, ValueError) as error:
        said = getattr(error, "stderr", "") or error
        return f"Mesa's lavapipe of {DEBIAN}-backports cannot be had here: {str(said).strip()[-300:]}"
    return ""


def _make(made: Path) -> None:
    """Download the packages through apt, with lists of its own, and keep the driver and Vulkan's loader."""
    with steps.workspace(made.parent) as root:
        (root / "lists" / "partial").mkdir(parents=True)
        (root / "sources.list").write_text("".join(f"deb {_archive()} {DEBIAN}{part} main\n" for part in ("", "-backports")))
        _apt(root, "update")
        _apt(root, "download", *(f"{name}={version}" for name, (version, _) in PACKAGES.items()))
        for name, (_, wanted) in PACKAGES.items():
            (file,) = root.glob(f"{name}_*.deb")
            if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
                raise LookupError(f"{file.name} is not the package that is pinned")
            _run("dpkg-deb", "-x", str(file), str(root / "unpacked"))
        for library in LIBRARIES:
            (found,) = (root / "unpacked").glob(f"usr/lib/*/{library}")
            shutil.copyfile(found, made / library)
    if lacks := [line for line in _run("ldd", str(made / LIBRARIES[0])).splitlines() if "not found" in line]:
        raise LookupError(f"the driver needs {lacks[0].strip()}")
    described = {"ICD": {"api_version": "1.4.305", "library_path": LIBRARIES[0]}, "file_format_version": "1.0.0"}
    (made / "driver.json").write_text(json.dumps(described))


def _archive() -> str:
    """Return the archive that this machine's apt has the release from. Raises LookupError for another system."""
    told = _run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    for line in told.splitlines():
        release, uri = line.split(" ", 1)
        if release == DEBIAN:
            return uri
    raise LookupError(f"this is not Debian {DEBIAN}")


def _apt(root: Path, *words: str) -> None:
    own = {
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": root / "lists",
        "Dir::Cache": root,
    }
    own |= {"APT::Sandbox::User": "root", "Acquire::Languages": "none"}
    _run("apt-get", "-qq", *(f"-o{name}={value}" for name, value in own.items()), *words, folder=root)


def _run(*command: str, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=SECONDS).stdout


if __name__ == "__main__":
    raise SystemExit(fetch() or print(f"lavapipe is in {folder()}"))
