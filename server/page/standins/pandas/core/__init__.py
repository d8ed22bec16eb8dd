"""The part of pandas' inside that Bokeh imports names from."""

from . import groupby

__all__ = ["groupby"]
