"""Set-up on machines that lack something."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hybr.server import bootstrap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on its PATH but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def command(folder: Path, name: str, says: str = "") -> None:
    """Put a command there that says something."""
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("version", "told"), [(None, "none on the PATH"), ("v18.20.4", "Node 18")])
def test_an_old_node_is_named(bare: Path, capsys: pytest.CaptureFixture[str], version: str | None, told: str) -> None:
    """Without Node 20 nothing is begun, and the message says what was found."""
    if version:
        command(bare, "node", version)
        command(bare, "npm")
    assert bootstrap.main() == 1
    assert told in capsys.readouterr().err


def test_missing_debian_packages_are_one_line_for_who_is_not_root(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who is not root is told the one line that would help, and set-up goes on."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    bootstrap.apt()
    assert "sudo apt-get install -y --no-install-recommends emscripten chromium postgresql" in capsys.readouterr().out
    command(bare, "emcc")
    command(bare, "chromium")
    command(bare, "psql")
    bootstrap.apt()
    assert capsys.readouterr().out == ""


def test_a_step_runs_once_for_the_same_inputs_and_again_after_a_failure(tmp_path: Path) -> None:
    """The stamp is written after success only."""
    ran: list[str] = []
    stamp = tmp_path / "stamp"

    def fail() -> None:
        ran.append("fail")
        raise subprocess.CalledProcessError(1, "pip")

    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.step("x", stamp, "a", fail)
    bootstrap.step("x", stamp, "a", lambda: ran.append("a"))
    bootstrap.step("x", stamp, "a", lambda: ran.append("not again"))
    bootstrap.step("x", stamp, "b", lambda: ran.append("b"))
    assert ran == ["fail", "a", "b"]


@pytest.mark.parametrize("folder", ["plain", "with a blank", "long" * 40])
def test_the_command_runs_from_any_folder(tmp_path: Path, folder: str) -> None:
    """Also from one whose path no script's first line can hold; its words arrive as they were given."""
    place = tmp_path / folder
    place.mkdir()
    (place / "python").symlink_to(sys.executable)
    script = place / "command"
    script.write_text(f"{bootstrap.begun_by(place / 'python')}\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    done = subprocess.run([script, "two words", "x"], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout == "['two words', 'x']\n"
