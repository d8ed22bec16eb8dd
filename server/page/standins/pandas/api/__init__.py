"""The part of pandas' public interface that Bokeh and Panel import names from."""

from . import extensions

__all__ = ["extensions"]
