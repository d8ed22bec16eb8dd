"""Modules that stand in, inside the page, for compiled packages Pyodide's core does not carry.

Panel and Bokeh import numpy and pandas unconditionally, but a chat made of our own components only asks them "is this
value one of yours?" (always no) and a few scalar questions. Each folder here is shipped under its own bare name
(`numpy`, `pandas`, `nh3`) at the head of `panel.zip`. Two rules make them safe:

- what they answer is what the real package answers (tests/unit/page compares the two call by call);
- what they do not have fails at once with a message naming the stand-in and the remedy, never with a wrong result.

A deployment that can reach the Pyodide distribution may put the real wheels in their place.
"""
