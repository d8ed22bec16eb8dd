"""The `hybr` command: a frame into which each part hangs its subcommands.

A part is a module with `add_parser(subparsers)`, which adds a parser under the part's name and gives it
`set_defaults(run=function)`; `function(args)` returns the exit code (None counts as 0). Only the part that is asked for
is imported, so `hybr serve` never pays for the compiler.

An exception class of HYBR's own prints as one readable line (its `message` and `remedy`, else its text) and ends with its
`exit` code; any other is a defect and keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = {
    "serve": ("hybr.server.serve", "serve the page, the models and the gateway"),
    "users": ("hybr.server.accounts", "the people who may log in"),
    "keys": ("hybr.server.keys.command", "the people's provider keys and the master key"),
    "tokens": ("hybr.server.doors.command", "API tokens for scripts"),
    "link": ("hybr.server.doors.link", "print a fresh link into a running server"),
    "config": ("hybr.server.config.command", "show every setting and where it came from"),
    "page": ("hybr.server.pagecommand", "build the page's bundle"),
    "doctor": ("hybr.server.doctor", "check what a server needs here"),
    "store": ("hybr.server.store.command", "the database: its state, and moving it"),
    "models": ("hybr.mlc_build.cli", "build, list and remove models"),
}


def frame(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser, with the whole of the `chosen` part and one line for each other."""
    parser = argparse.ArgumentParser(prog="hybr", description="One chat over a model in the page and one behind a thin server.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="part", metavar="COMMAND")
    for name, (module, summary) in PARTS.items():
        if name == chosen:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = frame(chosen)
    args = parser.parse_args(words)
    if args.version:
        return version()
    run = getattr(args, "run", None)
    if run is None:
        parser.print_help()
        return 0 if chosen is None else 2
    try:
        return int(run(args) or 0)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        line = readable(error)
        if line is None:
            raise
        print(f"hybr: {line}", file=sys.stderr)
        return int(getattr(error, "exit", 1))


def readable(error: Any) -> str | None:
    """Return the error as one line with its remedy where it has one, or None when it is none of ours."""
    if not type(error).__module__.startswith("hybr."):
        return None
    message = " ".join(str(getattr(error, "message", error)).split())
    remedy = getattr(error, "remedy", None)
    return f"{message}. {remedy}" if remedy else message


def version() -> int:
    """Print the distribution's version."""
    from importlib import metadata

    try:
        print("hybr", metadata.version("hybr"))
    except metadata.PackageNotFoundError:  # the source tree, linked and not installed
        print("hybr (source tree)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
