"""Whether a value holds to a JSON schema: each keyword, by what holds to it and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from hybr.webapp.hybrid.conform import departs

TREE = {"type": "object", "properties": {"down": {"$ref": "#"}}, "additionalProperties": False}
LINKED = {"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"}
EITHER = {"oneOf": [{"type": "integer"}, {"minimum": 2}]}
CASES: list[tuple[Any, list[Any], list[tuple[Any, str]]]] = [
    (True, [None, 1], []),
    ({"type": "integer"}, [1, 1.0, 10**400], [(True, "answer is True; it must be of type integer"), (1.5, "integer")]),
    ({"type": ["string", "null"]}, ["", None], [(0, "of type string or null")]),
    ({"enum": [1, {"a": [True]}]}, [1.0, {"a": [True]}], [(True, "one of"), ({"a": [1]}, "one of")]),
    ({"const": None}, [None], [(False, "it must be None")]),
    ({"minimum": 1, "exclusiveMaximum": 3}, [1, 2.9, "x"], [(0, "at least 1"), (3, "less than 3")]),
    ({"maximum": 1, "exclusiveMinimum": 0}, [1], [(2, "at most 1"), (0, "more than 0")]),
    ({"multipleOf": 0.1}, [0.3, 2], [(0.35, "a multiple of 0.1"), (10**400, "a multiple")]),
    ({"multipleOf": 3}, [9, 3 * 10**400], [(10, "a multiple of 3")]),
    ({"minLength": 2, "maxLength": 3}, ["ab", 1], [("a", "at least 2 characters"), ("abcd", "at most 3 characters")]),
    ({"pattern": r"^\d+$"}, ["12", 5], [("1a", "matched by"), ("\u0663", "matched by")]),
    ({"pattern": r"^\p{L}$"}, ["12"], []),  # JavaScript's own
    ({"format": "date"}, ["2026-02-28", 3], [("2026-13-01", "written as date")]),
    ({"format": "date-time"}, ["2026-02-28T10:00:00.5Z"], [("2026-02-28", "date-time")]),
    ({"format": "ipv4"}, ["127.0.0.1"], [("127.0.0.256", "ipv4"), ("1.2.3", "ipv4"), ("1.2.3.4.", "ipv4")]),
    ({"format": "email"}, ["a@b"], [("a b@c", "email")]),
    ({"format": "colour"}, ["x"], []),
    ({"required": ["a"]}, [{"a": None}, []], [({}, "answer lacks a")]),
    (
        {"properties": {"a": {"type": "null"}}, "patternProperties": {"^b": {"type": "string"}}, "additionalProperties": False},
        [{"a": None, "bc": ""}],
        [({"a": 1}, "answer.a is 1"), ({"b": 1}, "answer.b is 1"), ({"c": 1}, "answer.c must not be there")],
    ),
    ({"propertyNames": {"maxLength": 1}}, [{"a": 1}], [({"ab": 1}, "the name ab in answer is 'ab'")]),
    ({"minProperties": 1}, [{"a": 1}], [({}, "at least 1 properties")]),
    ({"dependentRequired": {"a": ["b"]}}, [{"b": 1}, {"a": 1, "b": 1}], [({"a": 1}, "lacks b")]),
    ({"dependentSchemas": {"a": {"maxProperties": 1}}}, [{"b": 1, "c": 1}], [({"a": 1, "b": 1}, "at most 1")]),
    ({"dependentRequired": 3, "minContains": "x"}, [{}], []),  # nonsense that nobody looks at
    ({"prefixItems": [{"const": 1}], "items": {"type": "string"}}, [[1, "a"], []], [([2], "answer[0]"), ([1, 2], "answer[1]")]),
    ({"minItems": 1, "maxItems": 1}, [[1]], [([], "at least 1 items"), ([1, 2], "at most 1 items")]),
    ({"uniqueItems": True}, [[1, True], [[1], [2]]], [([{"a": 1}, {"a": 1.0}], "twice")]),
    ({"contains": {"const": 1}, "maxContains": 1}, [[1, 2]], [([2], "has 0 items"), ([1, 1], "has 2 items")]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [(3, "at most 2")]),
    ({"anyOf": [{"const": 1}, {"const": 2}]}, [1, 2], [(3, "none of what it may be")]),
    (EITHER, [1, 2.5], [(3, "2 of what it may be"), (1.5, "none of what it may be")]),
    ({"not": {"type": "null"}}, [1], [(None, "must not be")]),
    ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"minimum": 1}}, ["a", 1], [("", "at least"), (0, "at least")]),
    (LINKED, [1], [("x", "of type integer")]),
    (TREE, [{"down": {"down": {}}}], [({"down": {"down": 1}}, "answer.down.down is 1"), ({"down": {"up": 1}}, "answer.down.up")]),
    ({"allOf": [{"$ref": "#"}, {"$ref": "#"}], "type": "null"}, [None], [(1, "of type null")]),  # leads to itself
    ({"$ref": "https://elsewhere.example/schema"}, [1], []),
    ({"$ref": "#/nowhere/0"}, [1], []),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), CASES, ids=[str(case[0])[:40] for case in CASES])
def test_each_keyword(schema: Any, right: list[Any], wrong: list[tuple[Any, str]]) -> None:
    """What holds passes; what does not is named with its place and what it must be."""
    assert [departs(value, schema) for value in right] == [None] * len(right)
    for value, part in wrong:
        assert part in (departs(value, schema) or "")


def test_a_deep_value_ends() -> None:
    """A tree deeper than any schema is looked at as far as schemas go."""
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"down": deep}
    assert departs(deep, TREE) is None
