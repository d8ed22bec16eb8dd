"""Which providers the operator set up: keys from the environment or from files, other addresses from one TOML file.

    OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY    each also as NAME_FILE, the path of a file that holds the key
    HYBR_UPSTREAMS                                       path of a TOML:

        default = "groq/llama-3.3-70b-versatile"   # for requests that name no model
        [upstreams.groq]                           # its models are groq/...
        key_env = "GROQ_API_KEY"                   # or key_file = "/run/secrets/groq"; keys never stand in this file
        [upstreams.box]
        base_url = "http://127.0.0.1:11434/v1"     # whatever speaks OpenAI's chat completions; known names need none
        models = ["qwen3:8b"]                      # without it, what the upstream lists
        timeouts = {first = 300}                   # seconds: connect 10, first byte 120, idle 60, total 900
        retries = 0                                # before the first byte; 2 without it
        [upstreams.azure]
        base_url = "https://ME.openai.azure.com/openai/deployments/MY-DEPLOYMENT"
        query = "api-version=2024-10-21"           # without it at https://ME.openai.azure.com/openai/v1
        key_env = "AZURE_OPENAI_API_KEY"
        models = ["MY-DEPLOYMENT"]
        [fallbacks]                                # who is asked when one fails before its first byte
        "groq" = ["box/qwen3:8b"]                  # by provider, or by model; never the other way unless it stands here

A provider whose key is missing here can still be asked by a person who keeps a key of their own on this server.

The same words may stand in hybr.toml instead (server/config). Everything is checked at the start, and a mistake names its
place. No message holds a key.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybr.server.errors import ConfigError
from hybr.server.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,149}")
QUERY = re.compile(r"(?:[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~-]*(?:&(?!$)|$))*")
KEY = re.compile(r"[\x21-\x7e]{1,4096}")
KINDS = ("openai", "anthropic", "gemini")
KEY_NAMES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}

# What a name alone already says. `limit` is the field for the most tokens; OpenAI's reasoning models refuse the older name.
PRESETS: dict[str, dict[str, Any]] = {
    "openai": {
        "base_url": "https://api.openai.com/v1",
        "default": "gpt-5-mini",
        "limit": "max_completion_tokens",
        "tools": True,
        "images": True,
        "remote_images": True,
        "embeds": True,
    },
    "anthropic": {
        "kind": "anthropic",
        "base_url": "https://api.anthropic.com/v1",
        "default": "claude-haiku-4-5",
        "context": 200_000,
        "tools": True,
        "images": True,
        "remote_images": True,
        "prefill": "yes",
    },
    "gemini": {
        "kind": "gemini",
        "base_url": "https://generativelanguage.googleapis.com/v1beta",
        "default": "gemini-flash-latest",
        "context": 1_048_576,
        "tools": True,
        "images": True,
        "prefill": "yes",
        "embeds": True,
    },
    "azure": {
        "auth": "api-key",
        "limit": "max_completion_tokens",
        "tools": True,
        "images": True,
        "remote_images": True,
        "embeds": True,
    },
    "groq": {"base_url": "https://api.groq.com/openai/v1", "tools": True},
    "mistral": {
        "base_url": "https://api.mistral.ai/v1",
        "tools": True,
        "rename": {"seed": "random_seed", "dimensions": "output_dimension"},
        "drop": ["stream_options"],  # it tells its usage unasked, and refuses the question
        "prefill": "prefix",
        "embeds": True,
    },
    "deepseek": {
        "base_url": "https://api.deepseek.com/v1",
        "tools": True,
        "prefill": "beta",
        "drop": ["seed"],
    },
    "openrouter": {"base_url": "https://openrouter.ai/api/v1", "prefill": "yes", "embeds": True},
    "ollama": {"base_url": "http://127.0.0.1:11434/v1", "embeds": True},
    "lmstudio": {"base_url": "http://127.0.0.1:1234/v1", "embeds": True},
    "vllm": {"base_url": "http://127.0.0.1:8000/v1", "prefill": "continue", "embeds": True},
    "llamacpp": {"base_url": "http://127.0.0.1:8080/v1", "prefill": "yes", "embeds": True},
}
PREFILLS = ("", "yes", "prefix", "beta", "continue")
TIMES = ("connect", "first", "idle", "total", "listing")
OWN = ("openai", "anthropic", "gemini", "groq", "mistral", "deepseek", "openrouter")  # who may be asked with a person's own key


@dataclass(frozen=True)
class Upstream:
    """One provider. `auth` is the header for the key where it is not the usual one (Azure's `api-key`).

    `rename` and `drop` say which request fields it knows by another name or not at all; `context` is its models' window in
    tokens, 0 where that is not known; `remote_images` that it may fetch a picture by its address; `private` that its
    name may lead into the operator's own network (`hybr.server.egress`); `embeds` that it makes vectors.

    `prefill` says how it goes on from an assistant's turn that comes last: not at all (empty), of itself (`yes`), when that
    turn has `prefix: true` (Mistral), the same under `/beta` (DeepSeek), or with `continue_final_message` (vLLM). `wants_key`
    that it answers nobody without one. `timeouts` are seconds by `TIMES`; `query` goes behind every path (Azure's `api-version`).
    """

    name: str
    base_url: str
    kind: str = "openai"
    key: Secret | None = None
    models: tuple[str, ...] = ()
    default: str = ""
    auth: str = ""
    limit: str = "max_tokens"
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    context: int = 0
    tools: bool = False
    images: bool = False
    remote_images: bool = False
    private: bool = False
    prefill: str = ""
    embeds: bool = False
    wants_key: bool = False
    retries: int = 2
    timeouts: Mapping[str, float] = field(default_factory=dict)
    query: str = ""

    @staticmethod
    def fits(model: str) -> bool:
        """Say whether `model` can be a model's name: what could leave a path or a line cannot."""
        return bool(MODEL.fullmatch(model)) and ".." not in model and "//" not in model


@dataclass(frozen=True)
class Upstreams:
    """All providers, why the known ones among the others are not there, and the model for requests that name none.

    `own` are those without a key of the operator's, for people who have one; `fallbacks` says who is asked after whom.
    """

    configured: tuple[Upstream, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own: tuple[Upstream, ...] = ()


def read(environ: Mapping[str, str], body: Mapping[str, Any] | None = None) -> Upstreams:
    """Return what the environment and its TOML say, or `body`, the same words out of hybr.toml. Raises ConfigError."""
    default, tables, chains = tomled(environ.get("HYBR_UPSTREAMS", "")) if body is None else worded(body, "hybr.toml")
    found, missing = [], {}
    for name, variable in KEY_NAMES.items():
        if name in tables:
            continue
        if key := key_of(environ, variable):
            found.append(make(name, {}, key))
        else:
            missing[name] = f"no key: set {variable} or {variable}_FILE"
    for name, table in tables.items():
        found.append(make(name, table, table_key(environ, name, table)))
    if default and not any(default.startswith(f"{one.name}/") for one in found):
        raise bad("default", f"{default[:100]!r} is no model of a configured upstream", "Write name/model")
    names = {one.name for one in found}
    own = tuple(make(name, {}, None, own=True) for name in OWN if name not in names)
    return Upstreams(tuple(found), missing, default, fallbacks(chains, names | {one.name for one in own} | {"house"}), own)


def fallbacks(chains: dict[str, Any], names: set[str]) -> dict[str, tuple[str, ...]]:
    """Return who is asked after whom. Raises ConfigError for a name that nobody has."""
    for who, chain in chains.items():
        if not isinstance(chain, list) or not all(isinstance(item, str) and item for item in chain):
            raise ConfigError(f"fallbacks.{who}: this must be a list of models", field=f"fallbacks.{who}", remedy="Mend it")
        for item in (who, *(item for item in chain if "/" in item)):
            if ("/" in item and item.partition("/")[0] not in names) or ("/" not in item and item not in names):
                text = f"fallbacks.{who}: {item[:100]!r} is no model of a configured upstream"
                raise ConfigError(text, field=f"fallbacks.{who}", remedy="Write name/model, or the upstream's name on the left")
    return {who: tuple(chain) for who, chain in chains.items()}


def tomled(path: str) -> tuple[str, dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the default model, the upstreams' tables and the fallbacks of the file. Raises ConfigError."""
    if not path:
        return "", {}, {}
    try:
        body = tomllib.loads(Path(path).expanduser().read_text("utf-8"))
    except OSError as error:
        raise bad("", f"{path} cannot be read ({error.strerror})", "Give the path of a TOML file, or unset it") from None
    except ValueError as error:
        raise bad("", f"{path} is not TOML: {error}", "Mend that line") from None
    return worded(body, path)


def worded(told: Mapping[str, Any], path: str) -> tuple[str, dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the default model, the upstreams' tables and the fallbacks. Raises ConfigError that names `path`."""
    body = dict(told)
    default, tables, chains = body.pop("default", ""), body.pop("upstreams", {}), body.pop("fallbacks", {})
    if body or not isinstance(default, str) or not isinstance(tables, dict) or not isinstance(chains, dict):
        text = f'{path} may hold default = "name/model", [upstreams.NAME] tables and [fallbacks] only'
        raise bad("", text, "Mend the file")
    for name, table in tables.items():
        if not NAME.fullmatch(name) or name == "house" or not isinstance(table, dict):
            raise bad(name, "an upstream is a table with a short lower-case name other than house", "Write [upstreams.NAME]")
    return default, tables, chains


def table_key(environ: Mapping[str, str], name: str, table: dict[str, Any]) -> Secret | None:
    """Return the key that a table points at, None for an upstream without one."""
    for word in ("key", "api_key"):
        if word in table:
            raise bad(f"{name}.{word}", "keys do not stand in this file", "Use key_env or key_file")
    variable, path = table.pop("key_env", None), table.pop("key_file", None)
    if path is not None:
        return checked(from_file(f"upstreams.{name}.key_file", str(path)), f"upstreams.{name}.key_file")
    if variable is None:
        return key_of(environ, KEY_NAMES[name]) if name in KEY_NAMES else None
    key = key_of(environ, str(variable))
    if key is None:
        raise bad(f"{name}.key_env", f"{variable} is not set", f"Set {variable} or {variable}_FILE, or take the table out")
    return key


def key_of(environ: Mapping[str, str], variable: str) -> Secret | None:
    """Return the key in `variable` or in the file that `variable`_FILE names. Raises ConfigError without a word of it."""
    value, path = environ.get(variable, "").strip(), environ.get(f"{variable}_FILE", "").strip()
    if value and path:
        text = f"{variable} and {variable}_FILE are both set"
        raise ConfigError(text, field=variable, remedy="Unset one of them")
    if path:
        return checked(from_file(f"{variable}_FILE", path), f"{variable}_FILE")
    return checked(value, variable) if value else None


def from_file(where: str, path: str) -> str:
    """Return a small file's text."""
    try:
        return Path(path).expanduser().read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = f"{where}: {path} cannot be read as a key"
        raise ConfigError(text, field=where, remedy="Name a file that holds the key and nothing else") from None


def checked(value: str, where: str) -> Secret:
    """Return the key. Raises ConfigError for one that could not stand in a header; its text stays out of the message."""
    if not KEY.fullmatch(value):
        raise ConfigError(f"what {where} gives is no key", field=where, remedy="A key is one line of ASCII without blanks")
    return Secret(value)


TEXTS, SWITCHES, LISTS = (
    {"base_url", "kind", "default", "auth", "limit", "prefill", "query"},
    {"tools", "images", "remote_images", "embeds", "private"},
    {"models", "drop"},
)


def make(name: str, table: dict[str, Any], key: Secret | None, *, own: bool = False) -> Upstream:
    """Return the upstream of one table over what its name already says; `own` when people bring the key. Raises ConfigError."""
    fields = {**PRESETS.get(name, {}), **table}
    for word, value in fields.items():
        shape_of(f"{name}.{word}", word, value)
    for word in LISTS & set(fields):
        fields[word] = tuple(fields[word])
    kind = fields.setdefault("kind", "openai")
    if kind not in KINDS:
        raise bad(f"{name}.kind", f"{kind!r} is no kind", f"Use one of {', '.join(KINDS)}")
    if key is None and kind != "openai" and not own:
        raise bad(f"{name}.key_env", f"{kind} wants a key", "Name the variable that holds it")
    fields["base_url"] = address(f"{name}.base_url", fields.get("base_url", ""), secret=key is not None or own)
    if fields.get("prefill", "") not in PREFILLS:
        raise bad(f"{name}.prefill", "this is no way to go on", f"Use one of {', '.join(PREFILLS[1:])}")
    if not QUERY.fullmatch(fields.get("query", "")):
        raise bad(f"{name}.query", "this is no query", 'Write it as "api-version=2024-10-21"')
    for model in (*fields.get("models", ()), *filter(None, [fields.get("default", "")])):
        if not Upstream.fits(model):
            raise bad(f"{name}.models", f"{model[:100]!r} is no model's name", "Write it as the provider does")
    if fields.get("models") and fields.get("default") not in fields["models"]:
        fields["default"] = fields["models"][0]
    return Upstream(name=name, key=key, wants_key=own, **fields)


def shape_of(where: str, word: str, value: Any) -> None:
    """Check one field's type. Raises ConfigError that says what is accepted."""
    if word in TEXTS:
        good, wanted = isinstance(value, str), "a text"
    elif word in SWITCHES:
        good, wanted = isinstance(value, bool), "true or false"
    elif word in LISTS:
        good, wanted = isinstance(value, list) and all(isinstance(item, str) for item in value), "a list of texts"
    elif word == "rename":
        good, wanted = isinstance(value, dict) and all(isinstance(item, str) for item in value.values()), "a table of texts"
    elif word == "retries":
        good, wanted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 5, "a number from 0 to 5"
    elif word == "timeouts":
        good = isinstance(value, dict) and set(value) <= set(TIMES) and all(seconds(item) for item in value.values())
        wanted = f"a table of seconds by {', '.join(TIMES)}"
    elif word == "context":
        good, wanted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9, "a number of tokens"
    else:
        known = ", ".join(sorted({*TEXTS, *SWITCHES, *LISTS, "rename", "context", "retries", "timeouts", "key_env", "key_file"}))
        raise bad(where, "there is no such field", f"There are {known}")
    if not good:
        raise bad(where, f"this must be {wanted}", "Mend it")


def seconds(value: Any) -> bool:
    """Say whether `value` is a time that one may wait."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400


def address(where: str, value: str, *, secret: bool) -> str:
    """Return the base URL without its last slash. Raises ConfigError for what could send a key elsewhere than it seems."""
    remedy = "Write https://host/path, or http:// for this machine or for an upstream without a key"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise bad(where, "this is no address", remedy) from None
    clean = value.isascii() and value.isprintable() and not any(mark in value for mark in "\\ @?#%")
    if parts.scheme not in {"http", "https"} or not host or not clean:
        raise bad(where, "this is no plain address", remedy)
    if parts.scheme == "http" and secret and not loopback(host):
        raise bad(where, "a key would go over the network in the clear", remedy)
    return value.rstrip("/")


def loopback(host: str) -> bool:
    """Say whether `host` is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bad(where: str, message: str, remedy: str) -> ConfigError:
    """Return the error for a mistake in the file."""
    place = f"upstreams.{where}" if where else "HYBR_UPSTREAMS"
    return ConfigError(f"{place}: {message}", field=place, remedy=remedy)
