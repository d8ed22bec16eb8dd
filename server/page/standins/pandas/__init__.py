"""Stand-in for pandas in the page: the class names Panel and Bokeh check values against, and nothing to compute with.

Contract: `import panel` works, `isinstance(value, pandas.DataFrame)` is False for every value that can exist here, and
making a frame or reading a file raises a TypeError that names the stand-in. Reason: as for numpy, with 6 MB on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import api, core

if TYPE_CHECKING:
    from typing import Self

__version__ = "2.0.0+hybr.standin"
__all__ = [
    "NA",
    "DataFrame",
    "Index",
    "NaT",
    "Period",
    "Series",
    "Timedelta",
    "Timestamp",
    "api",
    "core",
    "read_csv",
    "read_json",
]

_REMEDY = "the page carries HYBR's stand-in for pandas, which holds no data; use plain Python lists and dicts"


class _Nothing:
    """Cannot be made; a class of this stand-in exists for `isinstance` only."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        raise TypeError(f"pandas.{cls.__name__} cannot be made: {_REMEDY}")


class DataFrame(_Nothing):
    """A table's name."""


class Series(_Nothing):
    """A column's name."""


class Index(_Nothing):
    """An index's name."""


class PeriodIndex(Index):
    """A period index's name."""


class Period(_Nothing):
    """A period's name."""


class Timestamp(_Nothing):
    """A moment's name."""


class Timedelta(_Nothing):
    """A span's name."""


class NaTType:
    """The class of the missing moment."""


class NAType:
    """The class of the missing value."""


NaT = NaTType()
NA = NAType()


def read_csv(*_args: Any, **_kwargs: Any) -> Any:
    """Refuse (Panel wraps this name at import)."""
    raise TypeError(f"pandas.read_csv cannot read: {_REMEDY}")


def read_json(*_args: Any, **_kwargs: Any) -> Any:
    """Refuse (Panel wraps this name at import)."""
    raise TypeError(f"pandas.read_json cannot read: {_REMEDY}")


def __getattr__(name: str) -> Any:
    raise AttributeError(f"pandas.{name} is not here: {_REMEDY}")
