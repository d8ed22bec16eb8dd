"""`hybr page build`: build the page's bundle, or find the one that is already built from the same inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    """Add `page` to the frame."""
    page = subparsers.add_parser("page", help="build the page's bundle")
    commands = page.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the bundle and print its folder")
    build.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:  # noqa: ARG001  the frame's signature
    """Build with a line of progress for each step."""
    from hybr.server import page

    begin = time.monotonic()

    def progress(text: str, fraction: float | None = None) -> None:
        share = "" if fraction is None else f"{fraction:4.0%} "
        print(f"[page] {time.monotonic() - begin:5.1f} s  {share}{text}", flush=True)

    folder = page.build(progress)
    print(folder, flush=True)
    return 0
