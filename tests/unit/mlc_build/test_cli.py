"""`hybr models` as a person types it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hybr.mlc_build import catalogue, cli, store

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> int:
    """Run `hybr models ...` and return its exit status."""
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", *words])
    return int(args.run(args))


def test_list(shelved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every artifact of the catalogue has a line; what is built, building or failed says so."""
    store.write("smollm2-135m", "building", progress={"step": "weights", "fraction": 0.4, "text": "quantising", "eta_s": 9})
    store.write("tiny-q0f32", "failed", error={"code": "disk-full", "message": "no space left"})
    assert run("list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == [entry.id for entry in catalogue.everything()]
    assert f"revision {shelved.name}" in lines["tiny"]
    assert lines["tiny-q0f32"].endswith("no space left")
    assert "40%, quantising" in lines["smollm2-135m"]
    assert lines["smollm2-135m-q0f32"].split()[1] == "missing"


def test_for_programs(shelved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` gives states, and the manifest as it lies beside the files."""
    assert run("list", "--json") == 0
    found = {item["id"]: item for item in json.loads(capsys.readouterr().out)}
    assert (found["tiny"]["state"], found["tiny"]["rev"]) == ("built", shelved.name)
    assert found["smollm2-135m"]["state"] == "missing"
    assert run("inspect", "tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((shelved / "manifest.json").read_text())


def test_a_damaged_model_does_not_hide_the_others(shelved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has its line in the list, with what is wrong and what helps; inspecting it says so too."""
    (shelved / "manifest.json").write_text("[]")
    assert run("list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["tiny"].split()[1] == "damaged"
    assert lines["tiny"].endswith("run: hybr models build tiny")
    assert "smollm2-135m" in lines
    assert run("inspect", "tiny") == run("verify", "tiny") == 1


def test_verify(shelved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole model is confirmed; a damaged one is an error that names file and remedy."""
    assert run("verify", "tiny") == 0
    (shelved / "model.wasm").write_bytes(b"wasn")
    assert run("verify", "tiny") == 1
    told = capsys.readouterr()
    assert "tiny is whole: 2 files" in told.out
    assert "model.wasm was altered" in told.err
    assert "hybr models build tiny" in told.err


def test_a_reader_that_has_enough(shelved: Path) -> None:
    """`hybr models list | head -1` ends without a word: that nobody reads on is no error."""
    code = "from hybr.mlc_build import cli; import argparse, sys; parser = argparse.ArgumentParser(); "
    code += "cli.add_parser(parser.add_subparsers()); args = parser.parse_args(['models', 'list']); sys.exit(args.run(args))"
    ends = os.pipe()
    os.close(ends[0])
    with os.fdopen(ends[1], "w") as closed:
        ran = subprocess.run([sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_rm(shelved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Removing works once."""
    assert run("rm", "tiny") == 0
    assert not shelved.exists()
    assert run("rm", "tiny") == 1
    assert "tiny is not built" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("build", "gpt-9"), "no model 'gpt-9' in the catalogue; there are tiny"),
        (("build", "tiny", "--id", "../x"), "'../x' cannot be an id"),
        (("build", "tiny", "--context", "0"), "--context is 0; it must be at least 1"),
        (("build", "tiny", "--prefill-chunk", "65536"), "--prefill-chunk is 65536; a device takes at most 65535 tokens a call"),
        (("build", "/nowhere/at/all"), "no model '/nowhere/at/all' in the catalogue"),
        (("build", "smolm2-135m"), "did you mean smollm2-135m? There are tiny"),
        (("build", "./no.gguf"), "no model './no.gguf' in the catalogue, and no such file or folder"),
        (("build", "tiny", "--id", "smollm2-135m"), "smollm2-135m is a model of the catalogue; give this one another --id"),
        (("build", "/etc/hostname"), "neither a GGUF file"),
        (("build", "/etc", "--quant", "q9"), "there is no quantisation 'q9'; choose q4f32_1 or q4e8f32_1 or q0f32"),
        (("build", "/etc", "--quant", ""), "there is no quantisation ''"),
        (("build", "tiny", "--conv-template", "chatml"), "--conv-template names one of mlc_llm's: add --compiler mlc-llm"),
        (("build", "/etc", "--compiler", "mlc-llm", "--profile", "software"), "mlc_llm compiles for graphics processors only"),
        (("inspect", "smollm2-135m"), "smollm2-135m is not built"),
        (("build", "tiny", "--quant", "q9"), "tiny is not built in 'q9'; choose q4f32_1 or q4e8f32_1 or q0f32"),
        (("verify", "tiny"), "run: hybr models build tiny"),
        (("mirror", "https://[::1/x/"), "'https://[::1/x/' is no address that can be read (Invalid IPv6 URL)"),
        (("mirror", "x", "--library", "http://[a/"), "'http://[a/' is no address"),
        (("serve", "--port", "65536"), "--port is 65536; it must be from 0 to 65535"),
        (("rm", ".."), ".. is not built"),
        (("verify", "../models"), "../models is not built"),
    ],
)
def test_bad_input(home: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is one line on standard error and exit status 1; nothing is left on the shelf."""
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert store.names() == []


def test_bad_profile(home: Path) -> None:
    """An unknown profile is a usage error."""
    with pytest.raises(SystemExit):
        run("build", "tiny", "--profile", "quantum")


def test_no_emcc(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without emcc a build stops before it downloads anything, and the page can read why."""
    monkeypatch.setenv("PATH", str(home))
    monkeypatch.delenv("EMCC", raising=False)
    assert run("build", "smollm2-135m") == 1
    assert "apt-get install emscripten" in capsys.readouterr().err
    state = store.read("smollm2-135m")
    assert (state["state"], state["error"]["code"]) == ("failed", "missing-tool")
    assert not (home / "sources").exists()
