"""What the compiler's tests share: a cache of their own, a small disk, and the built models of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from killed import Killer
from shelf import built

from hybr.mlc_build import catalogue, manifest, store
from hybr.mlc_build.tiny import CONFIG
from hybr.server import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$HYBR_HOME`."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HYBR_HOME", str(folder))
    return folder


@pytest.fixture
def shelved(home: Path) -> Path:
    """A small build of `tiny` on the shelf."""
    made = home / "made"
    made.mkdir()
    (made / "tensor-cache.json").write_text(json.dumps({"metadata": {"Repacked": False}, "records": []}))
    (made / "model.wasm").write_bytes(b"wasm")
    found = manifest.make(made, catalogue.find("tiny"), CONFIG, 0)
    return store.put("tiny", made, found["rev"])


@pytest.fixture
def shared(home: Path) -> Iterator[httpx.Client]:
    """A client, of another origin's page, of `hybr models serve` on this home's shelf; it is stopped as a person stops it."""
    command = [sys.executable, "-m", "hybr.server.cli", "models", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy()) as server:
        assert server.stdout is not None
        told = server.stdout.readline()
        address = told.split()[2].removesuffix("/models/index.json,")
        elsewhere = {"origin": "https://app.invalid", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
        with httpx.Client(base_url=address, headers=elsewhere, timeout=60) as client:
            yield client
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in {0, -signal.SIGTERM}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, to be filled for real."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def killer() -> Iterator[Killer]:
    """The process that builds and dies."""
    with Killer() as killer:
        yield killer


@pytest.fixture(scope="session")
def real_home() -> Path:
    """The machine's own cache, where the runtime and the models are built once."""
    return paths.home()


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The folder of the built `tiny`."""
    return built("tiny")


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The folder of the built SmolLM2."""
    return built("smollm2-135m")
