"""The way from started to useful."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving import REV, asking, listening, parts_in, shelve, soon, state

from hybr.mlc_build import maker
from hybr.server import boot
from hybr.server.boot import missing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("page", "house", "warm", "waited", "status"),
    [
        (True, "ready", True, 0, "ok"),
        (True, "loading", True, 0, "ok"),
        (True, "starting", True, 0, "starting"),
        (True, "idle", True, 0, "starting"),
        (True, "failed", True, 0, "ok"),
        (True, "starting", True, 26, "ok"),
        (True, "idle", False, 0, "ok"),
        (False, "ready", True, 0, "starting"),
        (False, "ready", True, 100, "starting"),
    ],
)
def test_health(tmp_path: Path, page: bool, house: str, warm: bool, waited: float, status: str) -> None:  # noqa: PLR0917  a table
    """Healthy is: the page is there, and the house model has its weights, has failed, or has been waited for long enough."""
    parts = parts_in(tmp_path)
    (tmp_path / "index.html").write_text("")
    parts.site.folder = tmp_path if page else None
    parts.house.llama.state = house
    parts.boot.warm = warm
    parts.boot.begin -= waited
    report = parts.boot.health()
    assert report["status"] == status
    assert ("reason" in report) is (status != "ok")
    assert report["house"]["state"] == house


def test_what_is_missing(tmp_path: Path) -> None:
    """What is built, or being built by somebody else, is not built again; what failed is tried again at the next start."""
    home, models = tmp_path / "home", parts_in(tmp_path).models
    assert missing(models, boot.BUILDS) == ["tiny", "smollm2-135m"]
    shelve(home, "tiny", {"model.wasm": b"a"})
    state(home, "smollm2-135m", state="building", pid=os.getpid())
    assert missing(models, boot.BUILDS) == []
    state(home, "smollm2-135m", state="failed", error={"code": "x", "message": "y"})
    assert missing(models, boot.BUILDS) == ["smollm2-135m"]


def test_what_an_earlier_compiler_built_is_built_again(tmp_path: Path) -> None:
    """A model of another compiler's making stays in use and is made anew; so is one whose rebuild died half-way."""
    home, models = tmp_path / "home", parts_in(tmp_path).models
    shelve(home, "tiny", {"model.wasm": b"a"})
    for made_by in ("0" * 16, None):
        state(home, "tiny", state="built", rev=REV, made_by=made_by)
        assert missing(models, ["tiny"]) == ["tiny"]
        assert models.entry({"id": "tiny"})["state"] == "built"
    state(home, "tiny", state="building", rev=REV, made_by=maker.fingerprint(), pid=2**22 + 1)
    assert missing(models, ["tiny"]) == ["tiny"]


def test_a_queued_model_shows_as_being_built(tmp_path: Path) -> None:
    """The page waits for a model whose turn has not come; what is built, or being built, is shown as it is."""
    home, models = tmp_path / "home", parts_in(tmp_path).models
    models.queued = {"tiny", "smollm2-135m"}
    shelve(home, "tiny", {"model.wasm": b"a"})
    states = {entry["id"]: (entry["state"], entry["progress"]) for entry in models.entries()}
    assert states["tiny"] == ("built", None)
    assert states["smollm2-135m"][0] == "building"
    assert states["smollm2-135m"][1]["step"] == "queued"


async def test_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The builds run in turn, politely, and one that fails does not keep the next from its turn."""
    log = tmp_path / "log"
    (tmp_path / "builder.py").write_text(
        "import json, os, sys, time\n"
        f"log = open({str(log)!r}, 'a')\n"
        "log.write(json.dumps(['begin', sys.argv[1:], os.nice(0)]) + '\\n'); log.flush()\n"
        "time.sleep(0.2)\n"
        "log.write(json.dumps(['end', sys.argv[1:], 0]) + '\\n')\n"
        "sys.exit(1 if 'tiny' in sys.argv else 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(boot, "COMMAND", "builder")
    parts = parts_in(tmp_path)
    parts.boot.build = True
    said: list[str] = []
    parts.boot.say = said.append
    async with listening(parts) as address:
        await soon(lambda: len(said) == 5)
    lines: list[Any] = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(word, arguments[-1]) for word, arguments, _ in lines] == [
        ("begin", "tiny"),
        ("end", "tiny"),
        ("begin", "smollm2-135m"),
        ("end", "smollm2-135m"),
    ]
    assert lines[0][1:] == [["models", "build", "tiny"], 10]
    assert said[0] == f"HYBR is ready at {address}"
    assert "tiny could not be built" in said[2]
    assert "smollm2-135m is built" in said[4]


async def test_a_page_that_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bundle fails, the person reads why in the terminal and in the page's place, and the rest goes on."""
    (tmp_path / "builder.py").write_text("import sys; print('[page] npm packages', flush=True); sys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(boot, "COMMAND", "builder")
    monkeypatch.setattr(boot, "find_page", lambda: None)
    parts = parts_in(tmp_path)
    said: list[str] = []
    parts.boot.say = said.append
    await parts.boot._page()
    assert said[1] == "[page] npm packages"
    assert "could not be built (exit code 3)" in parts.site.notice
    assert "hybr page build" in parts.site.notice
    assert parts.boot.health()["reason"] == parts.site.notice
    await parts.stop()


async def test_the_address_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a first start the link is the first thing printed, and works, before the page that it leads to is built."""
    gate = tmp_path / "gate"
    (tmp_path / "builder.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\nraise SystemExit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(boot, "COMMAND", "builder")
    monkeypatch.setattr(boot, "find_page", lambda: None)
    parts = parts_in(tmp_path, "token")
    said: list[str] = []
    parts.boot.say = said.append
    parts.doors.port = 8080
    parts.start("http://127.0.0.1:8080")
    await soon(lambda: len(said) >= 2)
    assert f"http://127.0.0.1:8080/?token={parts.doors.local.link} " in said[0]
    assert said[1].startswith("Building the page")
    async with asking(parts) as client:
        client.base_url = httpx.URL("http://127.0.0.1")
        assert (await client.get(f"/?token={parts.doors.local.link}")).status_code == 303
        assert (await client.get("/")).status_code == 503, "the notice of what is being prepared"
        gate.touch()
        await soon(lambda: "could not be built" in said[-1])


@pytest.mark.parametrize("used", [True, False])
async def test_a_slow_house_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    """Who waits for the house model has the address meanwhile; a link that was used is not offered again."""
    monkeypatch.setattr(boot, "SOON", 0.01)
    parts = parts_in(tmp_path, "token")
    parts.site.folder, gate = tmp_path, asyncio.Event()
    said: list[str] = []
    parts.boot.say = said.append
    parts.boot._warm = gate.wait  # type: ignore[method-assign,assignment]
    parts.boot.start(lambda: parts.doors.address("http://127.0.0.1:8080"))
    await soon(lambda: said)
    assert f"/?token={parts.doors.local.link} " in said[0]
    if used:
        assert parts.doors.local.redeem(parts.doors.local.link)
    gate.set()
    await soon(lambda: len(said) == 2)
    link = f"/?token={parts.doors.local.link}"
    assert said[1] == f"HYBR is ready at http://127.0.0.1:8080{'' if used else link}"
    await parts.stop()


async def test_a_deleted_page_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting the page's folder under a running server has it built again, once, and then served as before."""
    bundle, log, gate = tmp_path / "page" / "0123456789abcdef", tmp_path / "log", tmp_path / "gate"
    (tmp_path / "builder.py").write_text(
        "import pathlib, time\n"
        f"open({str(log)!r}, 'a').write('begin ')\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.02)\n"
        f"folder = pathlib.Path({str(bundle)!r})\n"
        "folder.mkdir(parents=True)\n"
        "(folder / 'index.html').write_text('again')\n"
        "print(folder)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(boot, "COMMAND", "builder")
    monkeypatch.setattr(boot, "find_page", lambda: None)
    bundle.mkdir(parents=True)
    (bundle / "index.html").write_text("first")
    parts = parts_in(tmp_path)
    parts.site.folder = bundle
    async with listening(parts) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        assert (await client.get("/")).text == "first"
        shutil.rmtree(bundle.parent)
        answers = [await client.get("/") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
        gate.touch()
        await soon(lambda: parts.site.folder)
        assert (await client.get("/")).text == "again"
        assert (await client.get("/healthz")).json()["page"] == {"state": "ready"}
    assert log.read_text() == "begin "
    assert (bundle / "used").exists()
