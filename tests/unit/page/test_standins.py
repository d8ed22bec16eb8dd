"""The page's stand-ins answer what the real packages answer, and refuse what they do not have."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from hybr.server.page.standins import nh3, numpy, pandas

KINDS = [
    "bool_",
    "int8",
    "int64",
    "uint8",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex128",
    "datetime64",
    "timedelta64",
    "object_",
]
ABOVE = ["generic", "number", "integer", "signedinteger", "unsignedinteger", "inexact", "floating", "complexfloating", *KINDS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("above", ABOVE)
def test_scalar_types_stand_in_the_same_tree(kind: str, above: str) -> None:
    """`issubdtype` of any two scalar types is numpy's own answer."""
    assert numpy.issubdtype(getattr(numpy, kind), getattr(numpy, above)) is np.issubdtype(getattr(np, kind), getattr(np, above))


@pytest.mark.parametrize("kind", [int, float, bool, str, dict, Decimal, object])
@pytest.mark.parametrize("above", ["floating", "integer", "bool_"])
def test_python_classes_count_as_in_numpy(kind: type, above: str) -> None:
    """Bokeh asks `issubdtype(type(value), floating)` of every value it serialises: any class must get a plain answer."""
    assert numpy.issubdtype(kind, getattr(numpy, above)) is np.issubdtype(kind, getattr(np, above))


@pytest.mark.parametrize("value", [1, 1.5, True, 1j, "a", b"a", None, [1], {}, object(), Decimal(1), dt.datetime(2020, 1, 1)])  # noqa: DTZ001
def test_isscalar_is_numpys(value: Any) -> None:
    """Numbers, text and bytes are scalars; nothing else is."""
    assert numpy.isscalar(value) is np.isscalar(value)


@pytest.mark.parametrize(
    ("left", "right"), [(1.0, 1.0), (1.0, 1.000001), (0.0, 1e-9), (1.0, 1.1), (math.inf, math.inf), (math.nan, math.nan)]
)
def test_isclose_is_numpys(left: float, right: float) -> None:
    """The same pairs are close, infinities and NaN included."""
    assert numpy.isclose(left, right) == bool(np.isclose(left, right))


@pytest.mark.parametrize(
    ("left", "right"), [([1, 2], [1, 2]), ([1, 2], [1, 3]), ([1], [1, 2]), ([[1], [2]], [[1], [2]]), ([math.nan], [math.nan])]
)
@pytest.mark.parametrize("equal_nan", [True, False])
def test_array_equal_is_numpys(left: list[Any], right: list[Any], *, equal_nan: bool) -> None:
    """Sequences compare element by element, NaN as asked."""
    assert numpy.array_equal(left, right, equal_nan=equal_nan) is np.array_equal(left, right, equal_nan=equal_nan)


@pytest.mark.parametrize("num", [0, 1, 2, 7, 256])
def test_linspace_is_numpys(num: int) -> None:
    """Palettes take their colours at these places."""
    assert numpy.linspace(0, 255, num=num) == pytest.approx(list(np.linspace(0, 255, num=num)))


def test_moments_subtract_and_divide_as_in_numpy() -> None:
    """Bokeh turns a moment into milliseconds by `(moment - epoch) / one_ms`."""
    for module in (numpy, np):
        one: Any = module.timedelta64(1, "ms")
        epoch: Any = module.datetime64(0, "ms")
        assert (module.datetime64("2026-03-01T12:00:00") - epoch) / one == 1772366400000.0
        assert module.timedelta64(2, "s") / one == 2000.0


def test_dtypes_are_hashable_and_compare() -> None:
    """Bokeh keeps a set of the element types it sends as binary."""
    kinds = {numpy.dtype(numpy.int32), numpy.dtype("int32"), numpy.dtype(numpy.float64)}
    assert len(kinds) == 2
    assert numpy.dtype(numpy.float64).name == np.dtype(np.float64).name
    with pytest.raises(TypeError, match="not understood"):
        numpy.dtype("no such type")


@pytest.mark.parametrize(
    "make", [lambda: numpy.ndarray((2,)), lambda: numpy.int32(3), lambda: pandas.DataFrame({}), pandas.read_csv]
)
def test_what_needs_the_real_package_says_so(make: Any) -> None:
    """Making an array or a frame is a TypeError that names the stand-in, never a wrong result."""
    with pytest.raises(TypeError, match="stand-in"):
        make()


@pytest.mark.parametrize(("module", "name"), [(numpy, "array"), (numpy, "random"), (pandas, "concat"), (pandas, "io")])
def test_absent_names_are_missing_and_say_why(module: Any, name: str) -> None:
    """`hasattr` is False, and the message names the remedy."""
    assert not hasattr(module, name)
    with pytest.raises(AttributeError, match="stand-in"):
        getattr(module, name)


def test_no_value_is_a_frame() -> None:
    """The classes that Panel and Bokeh check against take no value that can exist in the page."""
    for kind in (
        pandas.DataFrame,
        pandas.Series,
        pandas.Index,
        pandas.api.extensions.ExtensionArray,
        pandas.core.groupby.GroupBy,
    ):
        assert not any(isinstance(value, kind) for value in (None, 1, "a", [], {}, object()))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("<b>bold</b> &amp; <i>it</i>", "<b>bold</b> &amp; <i>it</i>"),
        ("<script>alert(1)</script>after", "after"),
        ("<img src=x onerror=alert(1)>", '<img src="x">'),
        ('<a href="javascript:alert(1)">a</a>', '<a rel="noopener noreferrer">a</a>'),
        ('<a href="java\nscript:alert(1)">a</a>', '<a rel="noopener noreferrer">a</a>'),
        (
            '<a href="https://example.org/x?a=1&b=2">a</a>',
            '<a href="https://example.org/x?a=1&amp;b=2" rel="noopener noreferrer">a</a>',
        ),
        ("<svg><script>x</script></svg>ok", "ok"),
        ("<b><i>unclosed", "<b><i>unclosed</i></b>"),
        ("</b>stray", "stray"),
        ("<unknown>kept text</unknown>", "kept text"),
        ("1 < 2 & 3 > 2", "1 &lt; 2 &amp; 3 &gt; 2"),
        ("<div style='x' class='y' onclick='z'>t</div>", "<div>t</div>"),
    ],
)
def test_clean_keeps_only_what_is_harmless(given: str, wanted: str) -> None:
    """Scripts go with their contents, handlers and odd addresses go, markup comes out balanced."""
    assert nh3.clean(given) == wanted
