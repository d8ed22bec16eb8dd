"""The house rules that a machine can check."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOP = {
    "pyproject.toml",
    "requirements.lock",
    "webapp",
    "mlc_build",
    "server",
    "tests",
    "static",
    "README.md",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
}
# Split so that this file does not name them either: packages go by name, through the ordinary clients.
HOSTS = ["pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "deb." + "debian.org"]


def tracked() -> list[Path]:
    """Return the files git knows, relative to the root; untracked ones that are not ignored count too."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [Path(name) for name in names.stdout.splitlines() if (ROOT / name).exists()]


def test_nothing_else_at_the_top() -> None:
    """The top level holds what the architecture lists, and dotfiles."""
    assert {path.parts[0] for path in tracked() if not path.parts[0].startswith(".")} <= TOP


def test_no_registry_is_named() -> None:
    """No file names the host of a package registry."""
    named = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        named += [f"{path}: {host}" for host in HOSTS if host.encode() in content]
    assert named == []


def test_every_dependency_is_locked_with_hashes() -> None:
    """Each requirement of pyproject.toml, extras included, is in the lock, pinned and hashed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    lock = (ROOT / "requirements.lock").read_text()
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        assert re.search(rf"^{re.escape(name[0].lower())}==\S+.* \\\n +--hash=sha256:", lock, re.MULTILINE), requirement


def test_the_wheel_holds_the_parts_under_one_name(tmp_path: Path) -> None:
    """`server/` is installed as `hybr/server`, `static/` comes along, and nothing lands beside them."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([str(uv), "build", "--wheel", "-q", "-o", str(tmp_path)], cwd=ROOT, check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"hybr"}
    for part in ("server/cli.py", "webapp/hybrid/__init__.py", "mlc_build/__init__.py", "static/package.json"):
        assert f"hybr/{part}" in names
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


def test_the_webapp_imports_neither_server_nor_compiler() -> None:
    """Arrows point one way: what runs in the page knows nothing of the server or the model compiler."""
    for path in (ROOT / "webapp").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) hybr\.(server|mlc_build)", path.read_text(), re.MULTILINE), path
