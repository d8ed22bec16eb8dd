"""What is in the bundle: every package locked by hash, nothing that asks another host, the orchestrator on its own."""

from __future__ import annotations

import ast
import email
import re
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from hybr.server import paths
from hybr.server.errors import BuildError
from hybr.server.page import build, digest, parts, patches, wheels

if TYPE_CHECKING:
    from pathlib import Path

# Hosts that vendored code names and that no code of ours leads to; the page's policy blocks them all the same.
NAMED = {
    "maps.googleapis.com": "Bokeh's Google maps",
    "huggingface.co": "WebLLM's built-in list of models",
    "raw.githubusercontent.com": "WebLLM's built-in list of libraries",
    "bokeh.org": "the link behind Bokeh's logo",
    "docs.bokeh.org": "a link in Bokeh's tool bar",
}
# What the locked packages require, and why it is not locked: a stand-in, or nothing the page imports.
ELSEWHERE = {
    "numpy": "stand-in",
    "pandas": "stand-in",
    "nh3": "stand-in",
    **dict.fromkeys(
        (
            "narwhals",
            "pillow",
            "contourpy",
            "xyzservices",
            "tornado",
            "linkify-it-py",
            "markdown",
            "markdown-it-py",
            "mdit-py-plugins",
        ),
        "imported only by what the page does not use",
    ),
    **dict.fromkeys(
        ("requests", "typing-extensions", "panel-material-ui", "colorama"), "imported only by what the page does not use"
    ),
}


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The bundle as the sources are now, built if it is not there."""
    return build()


def assets(bundle: Path) -> Path:
    """The one folder under assets/."""
    return next((bundle / "assets").iterdir())


def test_every_locked_package_has_a_hash() -> None:
    """Pip is told to refuse anything whose hash is not in the lock."""
    blocks = re.split(r"\n(?=\S)", wheels.LOCK.read_text())
    pinned = [block for block in blocks if "==" in block]
    assert len(pinned) == len(wheels.names()) > 5
    assert all("--hash=sha256:" in block for block in pinned)


def test_the_lock_is_whole() -> None:
    """Whatever a locked package requires is locked too, or named with the reason why not."""
    locked = {name.split("==")[0] for name in wheels.names()}
    for wheel in wheels.fetch():
        with zipfile.ZipFile(wheel) as archive:
            metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            required = email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist") or []
        needed = {re.split(r"[ ;<>=!~\[(]", line)[0].lower().replace("_", "-") for line in required if "extra ==" not in line}
        assert needed <= locked | set(ELSEWHERE), f"{wheel.name} requires {needed - locked - set(ELSEWHERE)}"


def test_the_wheels_are_the_locked_ones() -> None:
    """One wheel for each locked package, of the locked version."""
    found = {"==".join(wheel.name.split("-")[:2]).replace("_", "-") for wheel in wheels.fetch()}
    assert found == set(wheels.names())


def test_no_script_or_style_names_a_content_network(bundle: Path) -> None:
    """No JavaScript or CSS of the bundle holds an address that something would be fetched from."""
    address = re.compile(r"""["'`(]https?://([a-z0-9.-]+)""")
    hosts = {
        host: path.name
        for path in assets(bundle).rglob("*")
        if path.suffix in {".js", ".mjs", ".css"}
        for host in address.findall(path.read_text(encoding="utf-8", errors="replace"))
    }
    words = re.compile(r"jsdelivr|unpkg|cdn|cloudflare|googleapis|gstatic|bokeh\.org|holoviz|huggingface|githubusercontent")
    fetched = {host for host in hosts if words.search(host)} - set(NAMED)
    assert {host: hosts[host] for host in fetched} == {}


def test_the_page_needs_no_eval(bundle: Path) -> None:
    """Panel's one evaluated line is gone from the source that was compiled."""
    source = dict(parts.python_panel(wheels.fetch()))["panel/io/pyodide.py"].decode()
    assert "run_js" not in source
    assert (assets(bundle) / "py" / "panel.zip").exists()


def test_a_patch_that_does_not_fit_fails_the_build() -> None:
    """An upgrade that moved the patched line is noticed, with the place to look at."""
    with pytest.raises(BuildError, match=r"patches\.py"):
        patches.no_eval(b"nothing to patch here")
    with pytest.raises(BuildError, match="no package host"):
        patches.no_package_host(b"nothing to patch here")


def test_the_orchestrator_imports_the_standard_library_only() -> None:
    """core.zip answers before Panel is there, so nothing in it may import beyond Python, Pyodide and itself."""
    allowed = set(sys.stdlib_module_names) | {"js", "pyodide", "pyodide_js", "_pyodide"}
    for name, contents in parts.python_core():
        for node in ast.walk(ast.parse(contents)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                ours = module.startswith("hybr.webapp") and not module.startswith("hybr.webapp.ui")
                assert ours or module.split(".")[0] in allowed, f"{name} imports {module}"


def test_the_page_names_its_own_assets(bundle: Path) -> None:
    """index.html asks for the folder that lies beside it, and every file that it names is there."""
    page = (bundle / "index.html").read_text(encoding="utf-8")
    assert "{{" not in page
    asked = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', page))
    assert asked
    assert all((bundle / address.lstrip("/")).is_file() for address in asked)


def test_modules_import_what_is_there(bundle: Path) -> None:
    """Every relative import of our JavaScript leads to a file of the bundle."""
    folder = assets(bundle) / "js"
    for path in folder.rglob("*.js"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"""(?:from|import)\s*\(?['"](\.[^'"]+)['"]""", text):
            assert (path.parent / target).resolve().is_file(), f"{path.name} imports {target}"


def test_the_input_hash_is_the_address(bundle: Path) -> None:
    """The folder under assets/ bears the bundle's own name, so an address never changes its contents."""
    assert assets(bundle).name == bundle.name
    assert len(bundle.name) == digest.LENGTH
    assert bundle.parent == paths.home() / "page"
