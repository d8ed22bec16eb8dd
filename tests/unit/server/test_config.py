"""Settings: where each may stand, which place wins, and what is said about a mistake."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hybr.server import cli
from hybr.server.config import Settings, load
from hybr.server.config.command import masked
from hybr.server.config.settings import catalogue
from hybr.server.config.sources import add_flags, spelt
from hybr.server.errors import ConfigError
from hybr.server.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.server.config import Told

SECRET = "postgresql://hybr:s3cr3t-@-word@db.example/hybr?sslmode=require"
OTHER = {  # a value of each setting that is not its default
    "host": "127.0.0.2",
    "port": 9001,
    "auth": "off",
    "hosts": ["a.example", "b.example:8443"],
    "build": False,
    "warm": False,
    "drain": 7,
    "database_url": SECRET,
    "log_level": "warning",
    "log_format": "json",
    "log_requests": "all",
    "telemetry": False,
    "metrics_token": SECRET,
    "master_key": "keyring",
    "home": "/tmp/other-home",
    "data": "/tmp/other-data",
}


def other(one: Any) -> Any:
    """Return another value than the default's; numbers that no one listed are one more."""
    return OTHER[one.key] if one.key in OTHER else one.default() + 1


def written(value: Any) -> str:
    """Return the value as the environment has it."""
    return ",".join(value) if isinstance(value, list) else spelt(value)


def told(tmp_path: Path, *words: str, toml: str = "", **environ: str) -> Told:
    """Load from flags, a file and an environment of the test's own."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    if toml:
        (tmp_path / "hybr.toml").touch(0o600)
        (tmp_path / "hybr.toml").write_text(toml)
    return load(parser.parse_args(words), {"HYBR_DATA": str(tmp_path), **environ})


@pytest.mark.parametrize("one", catalogue(), ids=lambda one: one.key)
def test_each_in_all_three_places(tmp_path: Path, one: Any) -> None:
    """Every setting can stand in flag, environment and file, each over the next, and says which it was."""
    value = other(one)
    expected = one.kind.read(value)
    held = tmp_path / "held"
    held.touch(0o600)
    held.write_text(written(value))
    if one.kind.switch:
        flags = [one.flag if value else f"--no-{one.key}"]
    else:
        flags = [one.flag, str(held) if one.kind.secret else written(value)]
    default = one.default()
    toml = f"{one.key} = {json.dumps(value)}" if one.toml else ""
    places = {one.flag: told(tmp_path, *flags, toml=toml, **{one.variable: written(default) or written(value)})}
    places[one.variable] = told(tmp_path, toml=toml, **{one.variable: written(value)})
    if one.toml:
        places[str(tmp_path / "hybr.toml")] = told(tmp_path, toml=toml)
    for source, found in places.items():
        assert found.origins[one.key] == source
        assert text_of(getattr(found.settings, one.field)) == text_of(expected)


def text_of(value: Any) -> str:
    """Return a value to compare: two secrets are equal when their texts are."""
    return value.reveal() if isinstance(value, Secret) else repr(value)


def test_defaults(tmp_path: Path) -> None:
    """With nothing said, every value is its default and says so; an empty variable says nothing."""
    found = told(tmp_path, HYBR_PORT=" ", HYBR_HOSTS="")
    expected = Settings(data=tmp_path)
    assert {one.key: getattr(found.settings, one.field) for one in catalogue()} == {
        one.key: getattr(expected, one.field) for one in catalogue()
    }
    assert {origin for key, origin in found.origins.items() if key != "data"} == {"default"}
    assert found.file is None


@pytest.mark.parametrize(
    ("toml", "environ", "words"),
    [
        ("port = 70000", {}, ["hybr.toml (port): 70000 is not a port", "1 to 65535"]),
        ('port = "x"', {}, ["'x' is not a port"]),
        ("port = true", {}, ["True is not a port"]),
        ("port = 8080.0", {}, ["not a port"]),
        ("prot = 1", {}, ["'prot' in", "is no setting", "Did you mean port?"]),
        ("[server]\nport = 1", {}, ["'server' in", "There are host, port"]),
        ('data = "/x"', {}, ["cannot stand in a file", "HYBR_DATA"]),
        ("port =", {}, ["is not TOML"]),
        ("", {"HYBR_PORT": "80 80"}, ["HYBR_PORT (port): '80 80' is not a port"]),
        ("", {"HYBR_PORT": "٨٠"}, ["not a port"]),
        ("", {"HYBR_BUILD": "never"}, ["HYBR_BUILD (build): 'never' is not on or off"]),
        ("", {"HYBR_AUTH": "of"}, ["HYBR_AUTH (auth): 'of' is not one of its words", "token, off, accounts"]),
        ("", {"HYBR_PROT": "1"}, ["HYBR_PROT is set", "Did you mean HYBR_PORT?"]),
        ("", {"HYBR_CONFIG": "/nowhere.toml"}, ["HYBR_CONFIG: /nowhere.toml cannot be read"]),
        ("", {"HYBR_DATABASE_URL": "x", "HYBR_DATABASE_URL_FILE": "y"}, ["are both set"]),
        ("", {"HYBR_DATABASE_URL_FILE": "/nowhere"}, ["HYBR_DATABASE_URL_FILE: /nowhere cannot be read"]),
        ('[limits]\nstreams = "x"', {}, ["limits.streams", "whole number"]),
        ("[upstreams.box]\nbase_url = 1", {}, ["upstreams.box.base_url", "a text"]),
        ("[limits]\nstreams = 1", {"HYBR_LIMITS": "/x"}, ["HYBR_LIMITS names a file, and", "limits too"]),
        ("hosts = [1]", {}, ["[1] is not a list of names"]),
        ("drain = -1", {}, ["-1 is not such a number", "from 0 to 600"]),
    ],
)
def test_mistakes(tmp_path: Path, toml: str, environ: dict[str, str], words: list[str]) -> None:
    """A mistake names its key, its place and what is accepted."""
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, toml=toml, **environ)
    line = f"{caught.value.message}. {caught.value.remedy}"
    assert all(word in line for word in words), line


def test_a_wrong_flag(tmp_path: Path) -> None:
    """A flag's mistake is told like every other."""
    with pytest.raises(ConfigError, match=r"--port \(port\): '1e3' is not a port"):
        told(tmp_path, "--port", "1e3")


def test_a_mistake_in_a_secret(tmp_path: Path) -> None:
    """What is wrong with a secret is said without a word of it."""
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, HYBR_DATABASE_URL="s3cr3t\nword")
    assert "s3cr3t" not in str(caught.value.envelope())


def test_parts_of_one_file(tmp_path: Path) -> None:
    """Upstreams, limits and prices may stand in the same file as the settings, and their decimals stay exact."""
    toml = """
        port = 9000
        default = "box/m"
        [upstreams.box]
        base_url = "http://127.0.0.1:11434/v1"
        models = ["m"]
        timeouts = { idle = 2.5 }
        [limits]
        spend_day = 0.1
        [prices."box/m"]
        input = 0.1
        output = 0.3
    """
    settings = told(tmp_path, toml=toml).settings
    assert [one.name for one in settings.upstreams.configured] == ["box"]
    assert settings.upstreams.default == "box/m"
    assert settings.money.policy.everybody.spend_day == 100_000_000
    price = settings.money.prices.find("box/m", "2026-11-23")
    assert price is not None
    assert (price.input, price.output) == (100_000_000, 300_000_000)
    assert settings.port == 9000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SECRET, "postgresql://hybr:***@db.example/hybr"),
        ("postgresql://hybr@/x?host=/run&password=s3cr3t-", "postgresql://hybr@/x"),
        ("s3cr3t-", "***"),
    ],
)
def test_masking(url: str, shown: str) -> None:
    """A database's address is shown without its password, wherever that stands."""
    assert masked(Secret(url)) == shown


def test_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`hybr config show` has a line for every setting and upstream, and no secret, as text, as JSON and in a repr."""
    toml = 'log_level = "debug"\n[upstreams.groq]\nkey_env = "GROQ_API_KEY"\n'
    (tmp_path / "hybr.toml").write_text(toml)
    for name, value in {
        "HYBR_DATA": str(tmp_path),
        "HYBR_DATABASE_URL": SECRET,
        "GROQ_API_KEY": "gsk-canary",
        "OPENAI_API_KEY": "sk-canary",
    }.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["config", "show", "--json", "--port", "9"]) == 0
    plain = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(plain)}
    assert {one.key for one in catalogue()} <= set(rows)
    assert rows["port"] == {"name": "port", "value": "9", "source": "--port"}
    assert rows["log_level"]["source"] == str(tmp_path / "hybr.toml")
    assert rows["upstreams.groq"]["value"] == "https://api.groq.com/openai/v1 (key set)"
    assert rows["upstreams.groq"]["source"] == str(tmp_path / "hybr.toml")
    assert rows["upstreams.openai"]["source"] == "OPENAI_API_KEY"
    assert cli.main(["config", "show"]) == 0
    drawn = capsys.readouterr().out
    assert f"file: {tmp_path / 'hybr.toml'}" in drawn
    for text in (plain, drawn, repr(load())):
        assert "s3cr3t" not in text
        assert "canary" not in text


MONEY = """
unknown_price = "allow"
[limits]
spend_day = 0.1
[limits.users.alice]
streams = 2
[prices."box/*"]
input = 0.25
output = 1
"""


@pytest.mark.parametrize("variable", ["", "HYBR_LIMITS"])
def test_show_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str) -> None:
    """Who has which limits, what an unknown price means and the operator's prices are shown, with the file that says so."""
    file = tmp_path / ("limits.toml" if variable else "hybr.toml")
    file.write_text(MONEY)
    monkeypatch.setenv("HYBR_DATA", str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(file))
    assert cli.main(["config", "show", "--json"]) == 0
    rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(capsys.readouterr().out)}
    source = f"{file} ({variable})" if variable else str(file)
    assert rows["limits"] == ("spend_day=0.1", source)
    assert rows["limits.users.alice"] == ("streams=2, spend_day=0.1", source)
    assert rows["limits.token"] == ("no limit", "default")
    assert rows["unknown_price"] == ("allow", source)
    assert rows['prices."box/*"'] == ("USD a million tokens: 0.25 in, 1 out from 1970-01-01", source)
    assert rows["prices"][1] == "default"
    assert rows["prices"][0].startswith("list prices of 20")


def test_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`hybr config check` is silent, or one line with exit code 2."""
    monkeypatch.setenv("HYBR_DATA", "/nonexistent")
    assert cli.main(["config", "check"]) == 0
    assert cli.main(["config", "check", "--port", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_cache_of_the_flag_is_everybody_s(tmp_path: Path) -> None:
    """`--home` and `--data` reach what the server starts, which knows of no flag."""
    program = (
        "import sys; from hybr.server import cli, paths, serve\n"
        "serve.listen = lambda settings: print(paths.home(), paths.data()) or 0\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "serve", "--home", str(tmp_path / "h"), "--data", str(tmp_path / "d")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.split() == [str(tmp_path / "h"), str(tmp_path / "d")]
