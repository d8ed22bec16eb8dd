"""Where settings come from, and how what was found becomes one `Settings`."""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr.server import upstreams
from hybr.server.config.settings import Setting, Settings, catalogue
from hybr.server.errors import ConfigError
from hybr.server.money import config as money

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "hybr.toml"
# The tables and words of the parts that read their own share of the file, and the variable that names a file of theirs instead.
PARTS = {"HYBR_UPSTREAMS": ("default", "upstreams", "fallbacks"), "HYBR_LIMITS": ("unknown_price", "limits", "prices")}
OTHERS = ("HYBR_CONFIG", *PARTS)
ALIKE = 0.85  # likeness from which an unknown HYBR_ variable is taken for a misspelt one


@dataclass(frozen=True)
class Told:
    """The settings, where each came from by its key, and the file that was read, if there is one."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give the parser a flag for every setting; what is not given stays None."""
    parser.add_argument("--config", metavar="FILE", help=f"the settings' file (default: {FILE} in the data folder)")
    for one in catalogue():
        default = "" if one.kind.secret or not one.toml else f" (default: {spelt(one.default())})"
        text = f"{'file that holds ' if one.kind.secret else ''}{one.text}{default}".replace("%", "%%")
        if one.kind.switch:
            parser.add_argument(one.flag, dest=dest(one), action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            metavar = one.flag.rpartition("-")[2].upper()
            parser.add_argument(one.flag, dest=dest(one), default=None, metavar=metavar, help=text)


def dest(one: Setting) -> str:
    """Return the name under which argparse keeps the flag."""
    return f"told_{one.key}"


def load(args: argparse.Namespace | None = None, environ: Mapping[str, str] | None = None) -> Told:
    """Return what flags, environment and file say together. Raises ConfigError.

    `args` come from a parser that `add_flags` saw; None means none was given.
    """
    environ = os.environ if environ is None else environ
    given = vars(args) if args else {}
    refuse_misspelt(environ)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    file: Path | None = None
    body: dict[str, Any] = {}
    # What the file's own place depends on comes first.
    for one in sorted(catalogue(), key=lambda one: one.toml):
        if one.toml and file is None:
            file, body = read_file(given.get("config"), environ, values["data"])
            file = file or Path()
        raw, origin = find(one, given, environ, body, file)
        values[one.field] = one.default() if origin == "default" else one.read(raw, origin)
        origins[one.key] = origin
    file = file if file and file.name else None
    refuse_unknown(body, file)
    return Told(Settings(**values, **parts(environ, body, file)), origins, file)


def find(
    one: Setting, given: Mapping[str, Any], environ: Mapping[str, str], body: Mapping[str, Any], file: Path | None
) -> tuple[Any, str]:
    """Return a setting's raw value and where it stands; an empty variable counts as unset."""
    if (raw := given.get(dest(one))) is not None:
        return (from_file(raw, one.flag, private=one.kind.private), one.flag) if one.kind.secret else (raw, one.flag)
    twin = f"{one.variable}_FILE"
    value, path = environ.get(one.variable, "").strip(), environ.get(twin, "").strip() if one.kind.secret else ""
    if value and path:
        raise ConfigError(f"{one.variable} and {twin} are both set", field=one.key, remedy="Unset one of them")
    if value or path:
        return (value, one.variable) if value else (from_file(path, twin, private=one.kind.private), twin)
    if one.key in body and one.toml:
        if one.kind.private and file:
            refuse_open(file, one.key)
        return body[one.key], str(file)
    return None, "default"


def from_file(path: str, source: str, *, private: bool = False) -> str:
    """Return a secret's text out of its file; a `private` one must be its owner's alone. Raises ConfigError without the text."""
    try:
        if private:
            refuse_open(Path(path).expanduser(), source)
        return Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, ValueError):
        remedy = "Name a file that holds the value and nothing else"
        raise ConfigError(f"{source}: {path} cannot be read", field=source, remedy=remedy) from None


def refuse_open(path: Path, source: str) -> None:
    """Raise ConfigError for a file that others can read and that holds what nobody else may."""
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{source}: {path} can be read by others", field=source, remedy=f"chmod 600 {path}")


def read_file(flag: str | None, environ: Mapping[str, str], data: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the settings' file and what it holds; one that was named must be there."""
    named = flag or environ.get("HYBR_CONFIG", "").strip()
    path = Path(named).expanduser() if named else data / FILE
    source = "--config" if flag else "HYBR_CONFIG" if named else str(path)
    try:
        return path, tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        if not named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None, {}
        message = f"{source}: {path} cannot be read ({error.strerror})"
        raise ConfigError(message, field="config", remedy="Name a TOML file that this user may read") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}", field="config", remedy="Mend that line") from None


def refuse_unknown(body: Mapping[str, Any], file: Path | None) -> None:
    """Raise ConfigError for a key of the file that is none."""
    known = [one.key for one in catalogue() if one.toml]
    tables = [word for words in PARTS.values() for word in words]
    for key in body:
        if key in known or key in tables:
            continue
        where = f"{key[:100]!r} in {file}"
        if key in {"data", "home"}:
            remedy = f"Set HYBR_{key.upper()} or give --{key}: it must be known before this file is found"
            raise ConfigError(f"{where} cannot stand in a file", field=key, remedy=remedy)
        near = difflib.get_close_matches(key, known + tables, 1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{where} is no setting", field=key[:100], remedy=f"{meant}There are {', '.join(known + tables)}")


def refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Raise ConfigError for a variable that looks like one of ours and is none; others may use the prefix too."""
    known = [*OTHERS, *(name for one in catalogue() for name in (one.variable, f"{one.variable}_FILE"))]
    for name in environ:
        if name.startswith("HYBR_") and name not in known and (near := difflib.get_close_matches(name, known, 1, ALIKE)):
            remedy = f"Did you mean {near[0]}? Unset {name} if not"
            raise ConfigError(f"{name} is set, and there is no such setting", field=name, remedy=remedy)


def parts(environ: Mapping[str, str], body: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Return what the parts make of their share of the file, or of the files that their variables name."""
    shares = {variable: {word: body[word] for word in words if word in body} for variable, words in PARTS.items()}
    for variable, share in shares.items():
        if share and environ.get(variable, "").strip():
            message = f"{variable} names a file, and {file} has {', '.join(share)} too"
            raise ConfigError(message, field=variable, remedy=f"Unset {variable}, or take these out of {file}")
    told = upstreams.read(environ, shares["HYBR_UPSTREAMS"] or None)
    if not (file and shares["HYBR_LIMITS"]):
        return {"upstreams": told, "money": money.read(environ)}
    exact = tomllib.loads(file.read_text("utf-8"), parse_float=Decimal)  # money is no float
    return {"upstreams": told, "money": money.parse({word: exact[word] for word in PARTS["HYBR_LIMITS"] if word in exact})}


def spelt(value: Any) -> str:
    """Return a value as a person would write it in the environment."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)
