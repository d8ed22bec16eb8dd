# ruff: noqa: N801  the names are numpy's
"""Stand-in for numpy in the page: its scalar types and dtype names, no arrays.

Contract: `import panel` and serialising our own components work as with the real numpy. `ndarray` exists for
`isinstance` checks only and cannot be made; asking for anything absent raises an AttributeError that says so.
Reason: no numpy wheel exists for the page's Pyodide ABI outside the Pyodide distribution (12 MB more to download).
"""

from __future__ import annotations

import datetime as dt
import math as _math
import numbers as _numbers
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

__version__ = "2.0.0+hybr.standin"
nan = float("nan")
inf = float("inf")
pi = _math.pi

_REMEDY = "the page carries HYBR's stand-in for numpy, which has no arrays; use plain Python lists and numbers"


class _AbsentError(TypeError):
    """Something that only the real numpy can make was asked for."""


class generic:
    """Root of the scalar types; only `datetime64` and `timedelta64` can be made."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:  # noqa: D102
        raise _AbsentError(f"numpy.{cls.__name__} cannot be made: {_REMEDY}")


class number(generic):
    """Any numeric scalar."""


class integer(number):
    """Any integer scalar."""


class signedinteger(integer):
    """Any signed integer scalar."""


class unsignedinteger(integer):
    """Any unsigned integer scalar."""


class inexact(number):
    """Any scalar that may be rounded."""


class floating(inexact):
    """Any floating-point scalar."""


class complexfloating(inexact):
    """Any complex scalar."""


class flexible(generic):
    """Any scalar without a fixed size."""


class character(flexible):
    """Any text scalar."""


class bool_(generic):
    """Truth value."""


class object_(generic):
    """Any other Python object."""


class str_(str, character):
    """Text."""

    __slots__ = ()


class bytes_(bytes, character):
    """Bytes."""

    __slots__ = ()


class void(flexible):
    """Record."""


def _scalar(name: str, base: type[generic]) -> Any:
    return type(name, (base,), {"__module__": __name__, "__doc__": f"The scalar type {name}."})


int8, int16, int32, int64 = (_scalar(f"int{bits}", signedinteger) for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (_scalar(f"uint{bits}", unsignedinteger) for bits in (8, 16, 32, 64))
float16, float32, float64 = (_scalar(f"float{bits}", floating) for bits in (16, 32, 64))
complex64, complex128 = (_scalar(f"complex{bits}", complexfloating) for bits in (64, 128))
int_, uint, float_, intp = int64, uint64, float64, int64
_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "D": 8.64e7, "W": 6.048e8}


class timedelta64(signedinteger):
    """A span of time, kept in milliseconds."""

    def __new__(cls, value: float | dt.timedelta = 0, unit: str = "ms") -> Self:  # noqa: D102
        self = object.__new__(cls)
        self._ms = value / dt.timedelta(milliseconds=1) if isinstance(value, dt.timedelta) else value * _MS[unit]
        return self

    _ms: float

    def __truediv__(self, other: timedelta64) -> float:
        return self._ms / other._ms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, timedelta64) and self._ms == other._ms

    def __hash__(self) -> int:
        return hash(self._ms)


class datetime64(generic):
    """A moment, kept in milliseconds since 1970 UTC."""

    def __new__(cls, value: float | str | dt.date = 0, unit: str = "ms") -> Self:  # noqa: D102
        self = object.__new__(cls)
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.date):
            moment = value if isinstance(value, dt.datetime) else dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001
            self._ms = (moment.replace(tzinfo=None) - dt.datetime(1970, 1, 1)) / dt.timedelta(milliseconds=1)  # noqa: DTZ001
        else:
            self._ms = value * _MS[unit]
        return self

    _ms: float

    def __sub__(self, other: datetime64) -> timedelta64:
        return timedelta64(self._ms - other._ms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime64) and self._ms == other._ms

    def __hash__(self) -> int:
        return hash(self._ms)


_BY_PYTHON: dict[type, type[generic]] = {bool: bool_, int: int64, float: float64, complex: complex128, str: str_, bytes: bytes_}


def _as_scalar_type(kind: Any) -> type[generic]:
    if isinstance(kind, dtype):
        return kind.type
    if isinstance(kind, str):
        return dtype(kind).type
    return kind if isinstance(kind, type) and issubclass(kind, generic) else _BY_PYTHON.get(kind, object_)


class dtype:
    """A named element type; hashable and comparable, as Bokeh keeps sets of them."""

    def __init__(self, kind: Any) -> None:
        if isinstance(kind, str):
            found = {"O": object_, "object": object_, "bool": bool_}.get(kind, globals().get(kind))
            if not (isinstance(found, type) and issubclass(found, generic)):
                raise TypeError(f"data type {kind!r} not understood")
            self.type: type[generic] = found
        else:
            self.type = _as_scalar_type(kind)
        self.name = self.type.__name__.rstrip("_")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dtype) and self.type is other.type

    def __hash__(self) -> int:
        return hash(self.type)

    def __repr__(self) -> str:
        return f"dtype({self.name!r})"


class ndarray:
    """Only for `isinstance`: no array can exist in the page."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:  # noqa: D102
        raise _AbsentError(f"numpy arrays cannot be made: {_REMEDY}")


class ma:
    """Masked arrays: the name, for `isinstance`."""

    MaskedArray = type("MaskedArray", (ndarray,), {"__doc__": "Only for isinstance."})


def issubdtype(kind: Any, of: Any) -> bool:
    """Tell whether the scalar type of `kind` lies under `of`; plain classes count as `object_`, as in numpy."""
    return issubclass(_as_scalar_type(kind), _as_scalar_type(of))


def isscalar(value: Any) -> bool:
    """Tell whether `value` is a number, text or bytes."""
    return isinstance(value, generic | _numbers.Number | str | bytes)


def isnan(value: float) -> bool:
    """Tell whether the number is not a number."""
    return _math.isnan(value)


def isfinite(value: float) -> bool:
    """Tell whether the number is finite."""
    return _math.isfinite(value)


def isclose(left: float, right: float, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Compare two numbers as numpy does (asymmetric: the bound scales with `right`)."""
    return left == right or abs(left - right) <= atol + rtol * abs(right)


def array_equal(left: Any, right: Any, equal_nan: bool = False) -> bool:
    """Compare two flat sequences or scalars element by element."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(lambda a, b: array_equal(a, b, equal_nan), left, right))
    if equal_nan and isinstance(left, float) and isinstance(right, float) and left != left and right != right:  # noqa: PLR0124
        return True
    return bool(left == right)


def linspace(start: float, stop: float, num: int = 50) -> list[float]:
    """Return `num` evenly spaced numbers, both ends included (Bokeh's palettes iterate over them)."""
    if num < 2:
        return [float(start)][:num]
    return [start + (stop - start) * index / (num - 1) for index in range(num - 1)] + [float(stop)]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"numpy.{name} is not here: {_REMEDY}")
