"""`hybr doctor`: what it finds, with a remedy for each, and its exit code."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from hybr.server import cli

if TYPE_CHECKING:
    from pathlib import Path


def examined(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run it for a data folder and return exit code and findings by name."""
    code = cli.main(["doctor", "--json", "--data", str(folder), "--port", "0", *words])
    return code, {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_healthy_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine without faults nothing fails, and the store is found whole and migrated."""
    code, found = examined(capsys, tmp_path / "data")
    assert code == 0
    assert found["store"]["state"] == "ok"
    assert "whole" in found["store"]["text"]


@pytest.mark.parametrize("fault", ["store", "data", "port", "upstream box"])
def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    """A damaged store, a data folder that is a file, a taken port, an upstream that is away: found, with a remedy, exit 1."""
    folder, words = tmp_path / "data", []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if fault == "data":
            folder.write_text("")
        else:
            folder.mkdir(mode=0o700)
        if fault == "store":
            (folder / "hybr.sqlite3").write_bytes(b"no database" * 500)
        if fault == "port":
            words = ["--port", str(taken.getsockname()[1])]
        if fault == "upstream box":
            (folder / "hybr.toml").write_text('[upstreams.box]\nbase_url = "http://127.0.0.1:1/v1"\n')
            words = ["--online"]
        code, found = examined(capsys, folder, *words)
    assert code == 1
    assert found[fault]["state"] == "fail"
    assert found[fault]["remedy"]


@pytest.mark.parametrize(("words", "said"), [(["--auth", "accounts"], True), ([], False)])
def test_a_server_with_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], *, said: bool
) -> None:
    """A server with accounts under a name is told that it wants TLS before it, for which names."""
    monkeypatch.setenv("HYBR_HOSTS", "chat.example.org")
    _, found = examined(capsys, tmp_path / "data", *words)
    assert ("doors" in found) == said
    assert not said or ("https" in found["doors"]["text"] and "chat.example.org" in found["doors"]["text"])
