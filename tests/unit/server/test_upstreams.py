"""What the operator can say about providers, and what is wrong with it."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from hybr.server.errors import ConfigError
from hybr.server.secret import LONGEST, Secret, redact
from hybr.server.upstreams import PRESETS, Upstream, address, read

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-test-0123456789abcdefghij"


def told(folder: Path, text: str, **environ: str) -> Any:
    """Return what a TOML of this text and an environment give."""
    path = folder / "upstreams.toml"
    path.write_text(text)
    return read({"HYBR_UPSTREAMS": str(path), **environ})


def test_nothing_set() -> None:
    """Without a key nobody is configured, and the report says for each which variable is missing."""
    found = read({})
    assert (found.configured, found.default) == ((), "")
    assert {name: reason.split()[-1] for name, reason in found.missing.items()} == {
        "openai": "OPENAI_API_KEY_FILE",
        "anthropic": "ANTHROPIC_API_KEY_FILE",
        "gemini": "GEMINI_API_KEY_FILE",
    }


def test_keys(tmp_path: Path) -> None:
    """A key comes from its variable, or from the file that the variable's _FILE names."""
    (tmp_path / "key").write_text("file-key\n")
    found = read({"OPENAI_API_KEY": f" {KEY}\n", "ANTHROPIC_API_KEY_FILE": str(tmp_path / "key")})
    keys = {one.name: one.key.reveal() for one in found.configured if one.key}
    assert keys == {"openai": KEY, "anthropic": "file-key"}
    assert list(found.missing) == ["gemini"]


def test_toml(tmp_path: Path) -> None:
    """A known name needs its key only; an unknown one its address; a table over a built-in one moves it elsewhere."""
    text = """
        default = "groq/llama"
        [upstreams.groq]
        key_env = "GROQ"
        models = ["llama", "other/model:7b"]
        [upstreams.box]
        base_url = "http://192.168.1.9:8000/v1/"
        context = 4096
        [upstreams.anthropic]
        base_url = "https://proxy.example/v1"
    """
    found = told(tmp_path, text, GROQ=KEY, ANTHROPIC_API_KEY="k")
    groq, box, claude = found.configured
    assert (groq.base_url, groq.models, groq.default) == (PRESETS["groq"]["base_url"], ("llama", "other/model:7b"), "llama")
    assert (box.base_url, box.key, box.kind, box.context) == ("http://192.168.1.9:8000/v1", None, "openai", 4096)
    assert (claude.kind, claude.base_url, claude.key.reveal()) == ("anthropic", "https://proxy.example/v1", "k")
    assert (found.default, sorted(found.missing)) == ("groq/llama", ["gemini", "openai"])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nonsense", "HYBR_UPSTREAMS"),
        ("other = 1", "HYBR_UPSTREAMS"),
        ('default = "x/y"', "upstreams.default"),
        ("[upstreams.house]", "upstreams.house"),
        ("[upstreams.Bad]", "upstreams.Bad"),
        ("[upstreams.box]", "upstreams.box.base_url"),
        (f'[upstreams.openai]\napi_key = "{KEY}"', "upstreams.openai.api_key"),
        ('[upstreams.groq]\nkey_env = "NOT_SET"', "upstreams.groq.key_env"),
        ('[upstreams.groq]\nkey_file = "/nowhere"', "upstreams.groq.key_file"),
        ("[upstreams.groq]\ntools = 1", "upstreams.groq.tools"),
        ('[upstreams.groq]\nmodels = "x"', "upstreams.groq.models"),
        ('[upstreams.groq]\nmodels = ["../x"]', "upstreams.groq.models"),
        ('[upstreams.groq]\nmodels = ["x?key=1"]', "upstreams.groq.models"),
        ('[upstreams.groq]\nkind = "other"', "upstreams.groq.kind"),
        ('[upstreams.groq]\nname = "other"', "upstreams.groq.name"),
        ("[upstreams.groq]\nrename = {a = 1}", "upstreams.groq.rename"),
        ("[upstreams.gemini]", "upstreams.gemini.key_env"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, field: str) -> None:
    """Each names its place and a remedy, and never shows a key."""
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, text)
    assert caught.value.field == field
    assert caught.value.remedy
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_API_KEY": f"{KEY}\r\nX-Evil: 1"},
        {"OPENAI_API_KEY": f"{KEY} x"},
        {"OPENAI_API_KEY": f"{KEY}é"},
        {"OPENAI_API_KEY": KEY, "OPENAI_API_KEY_FILE": "/x"},
        {"OPENAI_API_KEY_FILE": "/nowhere"},
    ],
)
def test_no_key(environ: dict[str, str]) -> None:
    """What cannot stand in a header, or is said twice, is refused without a word of it."""
    with pytest.raises(ConfigError) as caught:
        read(environ)
    assert str(caught.value.field).startswith("OPENAI_API_KEY")
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        "",
        "box",
        "ftp://box/v1",
        "file:///etc/passwd",
        "https://user:pw@box/v1",
        "https://box/v1?key=1",
        "https://box/v1#x",
        "https://box/v1 x",
        "https://bo\\x/v1",
        "https://bóx/v1",
        "https://box:99999999/v1",
        "http://box/v1",
        "http://127.0.0.1.evil.example/v1",
        "https://",
    ],
)
def test_addresses(value: str) -> None:
    """What two readers could read differently is refused, and so is a key in the clear."""
    with pytest.raises(ConfigError):
        address("upstreams.box.base_url", value, secret=True)


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8000/v1/", "http://localhost/v1", "http://[::1]:8/v1", "https://box.example/v1"]
)
def test_good_addresses(value: str) -> None:
    """Loopback, and whoever has a certificate, may have a key."""
    assert address("x", value, secret=True) == value.rstrip("/")


def test_model_names() -> None:
    """A model's name can leave neither a path nor a line."""
    good = ["gpt-5-mini", "meta-llama/Llama-3:free", "qwen3:8b", "a@b"]
    bad = ["", "../x", "a/../b", "a//b", "a?key=1", "a#b", "a b", "a\r\nb", "a%2e", "/a", "é", "x" * 151]
    assert all(Upstream.fits(name) for name in good)
    assert not any(Upstream.fits(name) for name in bad)


def test_secrets() -> None:
    """A key is in no repr, text, format or traceback, and is not pickled (adverse list, 46)."""
    secret = Secret(KEY)
    upstream = Upstream("openai", "https://x", key=secret)
    assert KEY not in f"{secret} {secret!r} {upstream} {upstream!r} {vars(upstream)}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-proj-********************abcd",
        "Authorization: Bearer abc.def",
        "key AIzaSyA1234567890abcdefghijklmnopqrstuv is bad",
        "see https://internal.example/x?key=1",
        "token " + "a1" * 30,
    ],
)
def test_redacted(text: str) -> None:
    """Keys, what looks like one, and addresses are taken out of a provider's words."""
    shown = redact(text, Secret(KEY))
    assert "***" in shown
    assert not any(word in shown for word in (KEY, "abcd", "abc.def", "AIza", "internal", "a1a1"))


def test_redacted_is_short_and_plain() -> None:
    """What is left is one short line."""
    shown = redact("a\r\nb\x1b[31m c" + " x" * 1000, None)
    assert shown.startswith("a b [31m c")
    assert len(shown) <= LONGEST
