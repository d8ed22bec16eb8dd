"""The command's frame and its settings."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hybr.server import cli, serve
from hybr.server.config import Settings
from hybr.server.errors import ConfigError, PortTakenError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `hybr` with the arguments."""
    command = [sys.executable, "-m", "hybr.server.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_help_names_every_part() -> None:
    """Without arguments and with --help the parts are listed with a line each."""
    for answer in (run(), run("--help")):
        assert answer.returncode == 0
        for part in cli.PARTS:
            assert part in answer.stdout


@pytest.mark.parametrize(("arguments", "word"), [(["serve", "--help"], "--no-build"), (["page", "--help"], "build")])
def test_each_part_has_its_help(arguments: list[str], word: str) -> None:
    """A part's own options show in its help."""
    answer = run(*arguments)
    assert answer.returncode == 0
    assert word in answer.stdout


def test_unknown_part() -> None:
    """A misspelt part is an error that lists the right ones."""
    answer = run("server")
    assert answer.returncode == 2
    assert "serve" in answer.stderr


def test_a_taken_port() -> None:
    """A taken port is one line that names the port and the remedy, and a non-zero exit."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = run("serve", "--port", str(port), "--no-build")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert f"port {port}" in answer.stderr
    assert "make run PORT=" in answer.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::", ""])  # noqa: S104  refused is the point
def test_other_machines_are_not_served(host: str) -> None:
    """Anything but a loopback address is refused with a reason and a remedy."""
    with pytest.raises(ConfigError, match="loopback") as caught:
        Settings(host=host)
    assert "127.0.0.1" in str(caught.value.remedy)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_is(host: str) -> None:
    """Every loopback address is taken."""
    assert Settings(host=host).host == host


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports(port: int) -> None:
    """What is no port is said to be none."""
    with pytest.raises(ConfigError, match="not a port"):
        Settings(port=port)


@pytest.mark.parametrize(
    ("raised", "line", "code"),
    [
        (lambda: PortTakenError("127.0.0.1", 80), "port 80", 1),
        (lambda: ConfigError("no", field="x", remedy="Do that"), "no. Do that", 2),
    ],
)
def test_errors_are_lines(
    raised: Callable[[], Exception], line: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our own exceptions print as one line with their exit code."""

    def fail(args: argparse.Namespace) -> int:
        raise raised()

    monkeypatch.setattr(serve, "run", fail)
    assert cli.main(["serve"]) == code
    assert line in capsys.readouterr().err


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is a defect, and is not dressed up as the person's mistake."""

    def fail(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(serve, "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["serve"])


def test_serve_starts_without_the_compiler() -> None:
    """`hybr serve` imports neither the compiler nor a test tool nor the house model's library."""
    program = (
        "import sys; from hybr.server import serve, app; from hybr.server.config import Settings;"
        "import hybr.server.page; parts = serve.assemble(Settings()); app.create(parts); print(*sorted(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=True
    ).stdout.split()
    assert not {"numpy", "tvm", "gguf", "xllamacpp", "httpx", "jinja2", "tokenizers", "panel"} & set(found)
