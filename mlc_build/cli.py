"""`hybr models`: build, list, verify and remove. Light at import; the compiler is loaded when something is compiled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .errors import BuildError

if TYPE_CHECKING:
    import argparse

    from .compile import Profile

PROFILES: tuple[Profile, ...] = ("gpu", "software")


def add_parser(subparsers: Any) -> None:
    """Add the `models` command to the `hybr` frame's subparsers; each action leaves its function in `args.run`."""
    models: argparse.ArgumentParser = subparsers.add_parser("models", help="build, list and remove models")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="build a model of the catalogue for the page")
    build.add_argument("id", help="which one; `hybr models list` shows them")
    build.add_argument("--quant", help="another quantisation than the model's default: q4f32_1, q4e8f32_1 or q0f32")
    build.add_argument("--profile", choices=[*PROFILES, "both"], default="both", help="libraries to compile (default both)")
    build.set_defaults(run=_guarded(build_model))
    actions.add_parser("list", help="show the catalogue and what is built").set_defaults(run=_guarded(list_models))
    verify = actions.add_parser("verify", help="read a built model and compare it with its manifest")
    verify.add_argument("id")
    verify.set_defaults(run=_guarded(verify_model))
    remove = actions.add_parser("rm", help="delete a built model")
    remove.add_argument("id")
    remove.set_defaults(run=_guarded(remove_model))


def build_model(args: argparse.Namespace) -> None:
    """Build one model; progress goes to standard error."""
    from .build import build

    chosen = [profile for profile in PROFILES if args.profile in {profile, "both"}]
    build(args.id, args.quant, chosen)


def list_models(_args: argparse.Namespace) -> None:
    """Print a line for each artifact of the catalogue and for whatever else lies on the shelf."""
    from . import catalogue, store

    known = [entry.id for entry in catalogue.everything()]
    for name in [*known, *(name for name in store.names() if name not in known)]:
        print(describe(name, store.read(name)))


def describe(name: str, state: dict[str, Any]) -> str:
    """Return a model's line: id, state, and what is worth saying of that state."""
    from . import store

    told = ""
    if store.current(name) is not None:
        found = store.manifest(name)
        told = f"{found['bytes'] / 1e6:.1f} MB, revision {found['rev']}"
    elif state["state"] == "building" and state["progress"]:
        told = f"{state['progress']['fraction']:.0%}, {state['progress']['text']}"
    elif state["state"] == "failed" and state["error"]:
        told = state["error"]["message"]
    return f"{name:<22} {state['state']:<9} {told}".rstrip()


def verify_model(args: argparse.Namespace) -> None:
    """Check a built model's files against its manifest."""
    from . import manifest, store

    found = store.manifest(args.id)
    folder = store.current(args.id)
    assert folder is not None  # noqa: S101 - store.manifest has said so
    manifest.verify(folder, found)
    print(f"{args.id} is whole: {len(found['files'])} files, {found['bytes'] / 1e6:.1f} MB, revision {found['rev']}")


def remove_model(args: argparse.Namespace) -> None:
    """Delete a built model."""
    from . import store

    store.remove(args.id)
    print(f"{args.id} is removed")


def _guarded(action: Any) -> Any:
    """Wrap an action so that a BuildError becomes one line and exit status 1."""

    def run(args: argparse.Namespace) -> int:
        try:
            action(args)
        except BuildError as error:
            print(f"hybr: {error}", file=sys.stderr)
            return 1
        except OSError as error:  # a folder that cannot be written, most often: the system's words name it
            print(f"hybr: {error}", file=sys.stderr)
            return 1
        return 0

    return run
