"""`hybr models serve` as a page of another origin meets it: over a real socket, started as a person starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hybr.mlc_build import catalogue, manifest, share, store
from hybr.mlc_build.tiny import CONFIG
from hybr.server.models import Models

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

COMMAND = [sys.executable, "-m", "hybr.server.cli", "models", "serve", "--port"]
ELSEWHERE = {"origin": "https://app.invalid", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}


def test_a_page_of_another_origin_reads(shared: httpx.Client, shelved: Path) -> None:
    """What WebLLM asks for under the told addresses is there, open to any origin, in ranges, and unchanged files cost nothing."""
    answer = shared.get("/webllm.json")
    assert answer.headers["access-control-allow-origin"] == "*"
    (record,) = answer.json()["model_list"]
    assert (record["model_id"], record["overrides"], record["model_type"]) == ("tiny", {"context_window_size": 1024}, 0)
    library = shared.get(record["model_lib"])
    assert library.content == (shelved / "model.wasm").read_bytes()
    assert library.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
    part = shared.get(f"{record['model']}resolve/main/tensor-cache.json", headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, (shelved / "tensor-cache.json").read_bytes()[2:6])
    same = shared.get(record["model_lib"], headers={"if-none-match": library.headers["etag"]})
    assert (same.status_code, same.headers["access-control-allow-origin"]) == (304, "*")
    assert [entry["id"] for entry in shared.get("/models/index.json").json()["models"]] == ["tiny"]


def test_preflights(shared: httpx.Client) -> None:
    """A page of the outer net may ask this machine, for reading only."""
    asked = {"access-control-request-method": "GET", "access-control-request-private-network": "true"}
    answer = shared.options("/models/index.json", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/webllm.json", {"host": "rebound.invalid"}, 400),
        ("GET", "/webllm.json", {"host": "127.0.0.1:1"}, 400),
        ("POST", "/webllm.json", {}, 403),
        ("GET", "/models/tiny/0123456789abcdef/model.wasm", {}, 404),
        ("GET", "/models/tiny/../../state.json", {}, 404),
        ("GET", "/", {}, 404),
    ],
)
def test_nothing_else(shared: httpx.Client, method: str, path: str, headers: dict[str, str], status: int) -> None:
    """Another machine's name, a write, another revision and whatever is no model's file are refused."""
    assert shared.request(method, path, headers=headers).status_code == status


def test_no_path_leads_out(shared: httpx.Client, shelved: Path) -> None:
    """Dots in a path, plain or encoded, find nothing beside the model."""
    base = f"/models/tiny/{shelved.name}/"
    for name in ("../state.json", "%2e%2e/state.json", "resolve/main/..%2fstate.json", "/etc/passwd"):
        assert shared.get(base + name).status_code == 404
    assert shared.get(f"{base}manifest.json").json()["id"] == "tiny"


def test_removed_while_it_is_read(shared: httpx.Client, home: Path) -> None:
    """`rm` of a model that somebody downloads: what was begun comes whole; what is asked for afterwards is not there."""
    content = os.urandom(24 << 20)  # more than sockets hold on the way
    made = home / "larger"
    made.mkdir()
    (made / "tensor-cache.json").write_text('{"metadata": {"Repacked": false}, "records": []}')
    (made / "params_shard_0.bin").write_bytes(content)
    rev = manifest.make(made, catalogue.find("tiny"), CONFIG, 0)["rev"]
    store.put("tiny", made, rev)
    path = f"/models/tiny/{rev}/params_shard_0.bin"
    with shared.stream("GET", path) as answer:
        blocks = answer.iter_bytes(1 << 16)
        came = next(blocks)
        store.remove("tiny")
        assert came + b"".join(blocks) == content
    assert shared.get(path).status_code == 404
    assert shared.get("/models/index.json").json()["models"] == []


def test_each_library_asks_for_what_it_uses(home: Path) -> None:
    """WebLLM refuses a device without subgroups in words, where it is told that a library needs them."""
    made = home / "made"
    made.mkdir()
    (made / "tensor-cache.json").write_text('{"metadata": {"Repacked": false}, "records": []}')
    for name in ("model.wasm", "model-subgroups.wasm", "model-software.wasm"):
        (made / name).write_bytes(name.encode())
    store.put("tiny", made, manifest.make(made, catalogue.find("tiny"), CONFIG, 0)["rev"])
    told = share.records(Models(home / "models", list), "http://x.invalid")
    wanted = {"tiny": [], "tiny-subgroups": ["subgroups"], "tiny-software": []}
    assert {record["model_id"]: record["required_features"] for record in told} == wanted


def test_a_taken_port(home: Path) -> None:
    """A port that another program holds is one line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        run = subprocess.run([*COMMAND, port], capture_output=True, text=True, check=False, env=os.environ.copy(), timeout=60)
    assert run.returncode == 1
    assert port in run.stderr
    assert run.stderr.count("\n") <= 2
    assert store.names() == []
