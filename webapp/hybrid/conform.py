"""Whether a value holds to a JSON schema (2020-12), for an answer that no engine has held to it: where it first departs.

What a keyword means is https://json-schema.org/draft/2020-12/json-schema-validation. Not looked at, and so passed:
`unevaluatedProperties`, `unevaluatedItems`, references to other documents, formats that are not known here, patterns that Python
cannot read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.schema import DEEPEST, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Look = Callable[[Any, Any, str], Iterator[str]]  # at a value, a schema and its path


def _multiple(value: float, unit: float) -> bool:
    if isinstance(value, int) and isinstance(unit, int):
        return not unit or value % unit == 0
    try:
        return not unit or abs(value / unit - round(value / unit)) < 1e-9
    except OverflowError:
        return False


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


KINDS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _number,
    "integer": lambda value: _number(value) and value == value // 1,
}
BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("more than", lambda value, bound: value > bound),
    "exclusiveMaximum": ("less than", lambda value, bound: value < bound),
    "multipleOf": ("a multiple of", _multiple),
}
SIZES = (("Length", str, "characters"), ("Items", list, "items"), ("Properties", dict, "properties"))
DAY, HOUR = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]\d\d:\d\d)"
FORMATS = {
    "date": DAY,
    "time": HOUR,
    "date-time": f"{DAY}T{HOUR}",
    "email": r"[^@\s]+@[^@\s]+",
    "ipv4": r"((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!\Z)|\Z)){4}",
    "uuid": r"[\da-fA-F]{8}(-[\da-fA-F]{4}){3}-[\da-fA-F]{12}",
}


def departs(value: Any, schema: Any, name: str = "answer") -> str | None:
    """Where the value first departs from the schema, as a sentence without its full stop; None where it holds to it."""
    return next(_at(value, schema, name, schema, frozenset()), None)


def _at(value: Any, schema: Any, path: str, root: Any, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """`above` is what is being looked at already, by identity: a reference may lead back to where it stands."""
    if schema is False:
        yield f"{path} must not be there"
    here = id(value), id(schema)
    if not isinstance(schema, dict) or here in above or len(above) > DEEPEST * 2:
        return

    def look(inner: Any, under: Any, where: str) -> Iterator[str]:
        return _at(inner, under, where, root, above | {here})

    for must in _musts(value, schema):
        yield f"{path} is {said(value)}; it must be {must}"
    if isinstance(value, dict):
        yield from _object(value, schema, path, look)
    if isinstance(value, list):
        yield from _list(value, schema, path, look)
    yield from _logic(value, schema, path, look)
    if isinstance(reference := schema.get("$ref"), str):
        yield from look(value, _found(reference, root), path)


# -- the value itself


def _musts(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What it must be and is not."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(KINDS[kind](value) for kind in kinds):
        yield f"of type {' or '.join(kinds)}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"one of {said(schema['enum'])}"
    if "const" in schema and not _same(value, schema["const"]):
        yield said(schema["const"])
    if _number(value):
        yield from (
            f"{word} {schema[name]}"
            for name, (word, holds) in BOUNDS.items()
            if name in schema and not holds(value, schema[name])
        )
    if isinstance(value, str):
        yield from _written(value, schema)
    for what, kind, unit in SIZES:
        if isinstance(value, kind):
            yield from _sized(len(value), schema.get(f"min{what}"), schema.get(f"max{what}"), unit)


def _written(text: str, schema: dict[str, Any]) -> Iterator[str]:
    if "pattern" in schema and not _matches(schema["pattern"], text):
        yield f"matched by {schema['pattern']}"
    form = FORMATS.get(schema.get("format", ""))
    if form and not re.fullmatch(form, text):
        yield f"written as {schema['format']}"


def _sized(size: int, least: float | None, most: float | None, unit: str) -> Iterator[str]:
    if least is not None and size < least:
        yield f"at least {least} {unit} long"
    if most is not None and size > most:
        yield f"at most {most} {unit} long"


# -- what is in it


def _object(value: dict[str, Any], schema: dict[str, Any], path: str, look: Look) -> Iterator[str]:
    wanted = list(schema.get("required", []))
    for name, more in _map(schema, "dependentRequired").items():
        wanted += more if name in value and isinstance(more, list) else []
    yield from (f"{path} lacks {name}" for name in wanted if name not in value)
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, one in value.items():
        under = [known[name]] if name in known else []
        under += [inner for pattern, inner in patterns.items() if _matches(pattern, name)]
        for inner in under or [schema.get("additionalProperties", True)]:
            yield from look(one, inner, f"{path}.{name}")
        yield from look(name, schema.get("propertyNames", True), f"the name {name} in {path}")
    for name, inner in _map(schema, "dependentSchemas").items():
        if name in value:
            yield from look(value, inner, path)


def _list(value: list[Any], schema: dict[str, Any], path: str, look: Look) -> Iterator[str]:
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    for index, one in enumerate(value):
        yield from look(one, first[index] if index < len(first) else rest, f"{path}[{index}]")
    if schema.get("uniqueItems") is True and any(_same(one, other) for at, one in enumerate(value) for other in value[:at]):
        yield f"{path} has the same item twice"
    if "contains" in schema:
        count = sum(next(look(one, schema["contains"], path), None) is None for one in value)
        least, most = schema.get("minContains", 1), schema.get("maxContains")
        if (_number(least) and count < least) or (most is not None and _number(most) and count > most):
            yield f"{path} has {count} items of the kind that it must contain"


# -- schemas over schemas


def _logic(value: Any, schema: dict[str, Any], path: str, look: Look) -> Iterator[str]:
    def holds(inner: Any) -> bool:
        return next(look(value, inner, path), None) is None

    for inner in schema.get("allOf", []):
        yield from look(value, inner, path)
    if "anyOf" in schema and not any(map(holds, schema["anyOf"])):
        yield f"{path} is {said(value)}: none of what it may be"
    if "oneOf" in schema and (count := sum(map(holds, schema["oneOf"]))) != 1:
        yield f"{path} is {said(value)}: {count or 'none'} of what it may be, and must be exactly one"
    if "not" in schema and holds(schema["not"]):
        yield f"{path} is {said(value)}, which it must not be"
    if "if" in schema:
        yield from look(value, schema.get("then" if holds(schema["if"]) else "else", True), path)


def _found(reference: str, root: Any) -> Any:
    """What a reference within the document leads to; True, which everything holds to, for any other."""
    steps = reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else [""]
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~")
        inside = isinstance(root, list) and name.isdigit() and int(name) < len(root)
        root = root[int(name)] if inside else root.get(name, True) if isinstance(root, dict) else True
    return root


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text, re.ASCII) is not None
    except re.error:  # JSON Schema's patterns are JavaScript's
        return True


def _same(one: Any, other: Any) -> bool:
    """As JSON: 1 and 1.0 are the same, true and 1 are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _map(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A keyword that `schema.wrong` does not look at."""
    found = schema.get(name)
    return found if isinstance(found, dict) else {}
