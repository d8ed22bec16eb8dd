"""`hybr models`: build, mirror, list, inspect, verify, serve and remove.

Light at import; the compiler is loaded when something is compiled.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import BuildError, Damaged, UnknownModel, UnknownQuantisation

if TYPE_CHECKING:
    import argparse

    from .compile import Profile

PROFILES: dict[str, tuple[Profile, ...]] = {"gpu": ("gpu", "subgroups"), "software": ("software",)}
COMPILERS = ("own", "mlc-llm")


def add_parser(subparsers: Any) -> None:
    """Add the `models` command to the `hybr` frame's subparsers; each action leaves its function in `args.run`."""
    models: argparse.ArgumentParser = subparsers.add_parser("models", help="build, list and remove models")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="build a model for the page, of the catalogue or from your own checkpoint")
    build.add_argument(
        "source",
        help="a catalogue id (`hybr models list`), a GGUF file, a safetensors file, or a folder in Hugging Face's layout",
    )
    build.add_argument("--id", help="what to call it (default: the catalogue's id, or the path's name and the quantisation)")
    build.add_argument(
        "--quant",
        help="another quantisation than the default: q4e8f32_1, q4f32_1, q0f32; with f16 for f32 where devices have shader-f16",
    )
    build.add_argument("--context", type=int, metavar="N", help="window in tokens (default: the catalogue's; else up to 4096)")
    build.add_argument("--prefill-chunk", type=int, metavar="N", help="most tokens of one prefill call (default 256)")
    build.add_argument("--profile", choices=[*PROFILES, "both"], default="both", help="libraries to compile (default both)")
    build.add_argument(
        "--compiler", choices=COMPILERS, default=COMPILERS[0], help="mlc-llm: the mlc_llm tool, if installed, for other families"
    )
    build.add_argument(
        "--conv-template", metavar="NAME", help="with mlc-llm: one of its templates (default: the checkpoint's own)"
    )
    build.set_defaults(run=_guarded(build_model))
    mirror = actions.add_parser("mirror", help="fetch a model of WebLLM's catalogue from its publisher, to serve it from here")
    mirror.add_argument("source", help="an id of WebLLM's catalogue, or the address of a model's folder")
    mirror.add_argument("--from", dest="host", metavar="HOST", help="fetch from this host (or URL) instead of the publisher's")
    mirror.add_argument("--library", metavar="URL", help="where the library is, for an address that is not in the catalogue")
    mirror.add_argument("--id", help="what to call it here (default: its own id in lower case)")
    mirror.set_defaults(run=_guarded(mirror_model))
    serve = actions.add_parser("serve", help="serve the models on the shelf to pages of any origin on this machine")
    serve.add_argument("--port", type=int, default=8014, help="on 127.0.0.1 (default 8014; 0 for a free one)")
    serve.set_defaults(run=_guarded(serve_models))
    shelf = actions.add_parser("list", help="show the catalogue and what is built")
    shelf.add_argument("--json", action="store_true", help="for a program: an object for each model, state and all")
    shelf.set_defaults(run=_guarded(list_models))
    inspect = actions.add_parser("inspect", help="show what a built model is, needs and consists of")
    inspect.add_argument("id")
    inspect.add_argument("--json", action="store_true", help="for a program: the manifest as it is")
    inspect.set_defaults(run=_guarded(inspect_model))
    verify = actions.add_parser("verify", help="read a built model and compare it with its manifest")
    verify.add_argument("id")
    verify.set_defaults(run=_guarded(verify_model))
    remove = actions.add_parser("rm", help="delete a built model, and what was kept for it alone")
    remove.add_argument("id")
    remove.set_defaults(run=_guarded(remove_model))


def build_model(args: argparse.Namespace) -> None:
    """Build one model; progress goes to standard error."""
    if args.compiler != COMPILERS[0]:
        from . import external

        if args.profile == "software":
            raise UnknownQuantisation("mlc_llm compiles for graphics processors only: leave --profile or --compiler out")
        external.build(args.source, args.quant, args.id, args.context, args.prefill_chunk, template=args.conv_template)
        return
    from . import own
    from .build import build_entry

    if args.conv_template is not None:
        raise UnknownModel("--conv-template names one of mlc_llm's: add --compiler mlc-llm, or leave it out")
    chosen = [profile for name, profiles in PROFILES.items() if args.profile in {name, "both"} for profile in profiles]
    entry = own.entry_of(args.source, args.quant, name=args.id, context=args.context, chunk=args.prefill_chunk)
    build_entry(entry, chosen)


def mirror_model(args: argparse.Namespace) -> None:
    """Fetch one model; progress goes to standard error."""
    from . import mirror

    try:
        for address in filter(None, (args.source, args.host, args.library)):
            urlsplit(address)
    except ValueError as error:
        raise UnknownModel(f"{address!r} is no address that can be read ({error})") from error
    chosen = mirror.choose(args.source, mirror.known, name=args.id, host=args.host, library=args.library)
    print(mirror.mirror(chosen))


def serve_models(args: argparse.Namespace) -> None:
    """Serve the shelf until SIGINT or SIGTERM."""
    from . import share

    if not 0 <= args.port <= 65535:
        raise UnknownModel(f"--port is {args.port}; it must be from 0 to 65535")
    share.listen(args.port)


def list_models(args: argparse.Namespace) -> None:
    """Print a line for each artifact of the catalogue and for whatever else lies on the shelf."""
    from . import catalogue, store

    known = [entry.id for entry in catalogue.everything()]
    names = [*known, *(name for name in store.names() if name not in known)]
    if args.json:
        told = ("state", "rev", "progress", "error")
        print(json.dumps([{"id": name} | {key: store.read(name)[key] for key in told} for name in names], indent=1))
        return
    for name in names:
        print(describe(name, store.read(name)))


def describe(name: str, state: dict[str, Any]) -> str:
    """Return a model's line: id, state, and what is worth saying of that state."""
    from . import store

    told = ""
    try:
        found = store.manifest(name)
        return f"{name:<22} {state['state']:<9} {found['bytes'] / 1e6:.1f} MB, revision {found['rev']}"
    except Damaged as error:  # one bad model does not hide the others
        return f"{name:<22} damaged   {error}"
    except UnknownModel:  # not yet, or no longer
        state = state | {"state": "missing"} if state["state"] == "built" else state
    if state["state"] == "building" and state["progress"]:
        told = f"{state['progress']['fraction']:.0%}, {state['progress']['text']}"
    elif state["state"] == "failed" and state["error"]:
        told = state["error"]["message"]
    return f"{name:<22} {state['state']:<9} {told}".rstrip()


def inspect_model(args: argparse.Namespace) -> None:
    """Print a built model's manifest for a person."""
    from . import store

    found = store.manifest(args.id)
    if args.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return
    rows = {
        "model": f"{found['name']} ({found['id']}, revision {found['rev']})",
        "family": f"{found['family']}, {found['quantisation']}",
        "window": f"{found['context']} tokens",
        "download": f"{found['bytes'] / 1e6:.1f} MB",
        "GPU memory": f"{found['vram_bytes'] / 1e6:.0f} MB",
        "features": ", ".join(found["features"]) or "none beyond WebGPU",
        "limits": _limits(found["limits"]),
        "shaders": _shaders(found.get("shaders") or {}),
        "blocks": found.get("blocks") or "the checkpoint's weights are floats",
        "weights": f"{found['origin']}, licence {found['licence']}",
    }
    for name, value in rows.items():
        print(f"{name:<11} {value}")
    for item in found["files"]:
        print(f"{item['bytes']:>12}  {item['sha256'][:16]}  {item['path']}")


def _shaders(told: dict[str, Any]) -> str:
    """Return what was validated, by what, and what goes past WebGPU's defaults, which `limits` then asks a device for."""
    from .validate import DEFAULTS, past

    if not told:
        return "not validated here"
    by = ", ".join(sorted({one["validator"] for one in told.values()}))
    counts = ", ".join(f"{one['modules']} of {name}" for name, one in told.items())
    most = {limit: max(one["most"][limit] for one in told.values()) for limit in DEFAULTS}
    beyond = past(most)
    return f"{counts} valid by {by}; " + (
        f"past WebGPU's defaults: {', '.join(beyond)}" if beyond else "within WebGPU's defaults"
    )


def _limits(asked: dict[str, int]) -> str:
    """Return what a device is asked for, and which buffers are larger than every device takes."""
    from .validate import BUFFERS, past

    beyond = past({name: asked[name] for name in BUFFERS if name in asked})
    told = ", ".join(f"{name} {value}" for name, value in asked.items())
    return told + (f"; past WebGPU's defaults: {', '.join(beyond)}" if beyond else "")


def verify_model(args: argparse.Namespace) -> None:
    """Check a built model's files against its manifest."""
    from . import manifest

    found = manifest.whole(args.id)
    print(f"{args.id} is whole: {len(found['files'])} files, {found['bytes'] / 1e6:.1f} MB, revision {found['rev']}")


def remove_model(args: argparse.Namespace) -> None:
    """Delete a built model."""
    from hybr.server import paths

    from . import store

    freed, stays = store.discard(args.id)
    print(f"{args.id} is removed: {freed / 1e6:.1f} MB are free")
    if stays:
        folder = paths.home() / "steps"
        print(
            f"{stays / 1e6:.1f} MB of it stay in {folder}, for other models or a build that runs; unused, they go after 14 days"
        )


def _guarded(action: Any) -> Any:
    """Wrap an action so that a BuildError becomes one line and exit status 1."""

    def run(args: argparse.Namespace) -> int:
        try:
            action(args)
            sys.stdout.flush()
        except BuildError as error:
            print(f"hybr: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # whoever read this has enough: `hybr models list | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it as it ends
        except OSError as error:  # a folder that cannot be written, most often: the system's words name it
            print(f"hybr: {error}", file=sys.stderr)
            return 1
        return 0

    return run
