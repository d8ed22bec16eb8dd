"""A model of WebLLM's catalogue, fetched from its publisher onto our shelf, so that a deployment needs no other host.

    find -> configuration and index (what there is, with sizes and md5) -> shards, tokenizer, library -> manifest -> publish

What has arrived stays in `$HYBR_HOME/mirrors/<id>/` until the model is whole: a mirror that was killed goes on where it was,
after asking anew what there is. Then it lies on the shelf like a built one, for `list`, `verify`, `rm` and the page.
mlc-chat-config.json is the one file that is not the publisher's byte for byte: the catalogue's overrides are written into it, for
WebLLM would apply them and the page knows no catalogue but ours.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from hybr.server import paths

from . import licence, manifest, prebuilt, steps, store, validate, wasm
from .download import Line, NotThere, Want, fits
from .errors import CompileError, Damaged, DiskFull, MissingTool, SourceError, UnknownModel, disk
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TextIO

    from .prebuilt import Record

CONFIG, INDEX, LIBRARY, CARD = "mlc-chat-config.json", "tensor-cache.json", "model.wasm", "README.md"
OLD_INDEX = "ndarray-cache.json"
SMALL, LARGE = 64 << 20, 512 << 20
NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w.-]*")
PACE = 5e6  # bytes a second, for the first estimate


@dataclass(frozen=True)
class Remote:
    """What to mirror: the shelf's id for it, and the record with the addresses after `--from`."""

    id: str
    record: Record


def choose(
    source: str,
    records: Callable[[], list[Record]],
    *,
    name: str | None = None,
    host: str | None = None,
    library: str | None = None,
) -> Remote:
    """Return what a person means.

    Args:
        source: an id of WebLLM's catalogue, or the address of a model's folder.
        records: reads that catalogue.
        name: id on the shelf; default the model's, in lower case.
        host: scheme and host (and port) to fetch from instead of the publisher's, with the publisher's paths.
        library: address of the library; needed for an address that the catalogue does not have.

    Raises:
        UnknownModel: no such id, an address without a library, or an id that cannot be a folder's name.

    """
    record = _at(source, records, library) if "://" in source else prebuilt.find(source, records())
    if library:
        record = replace(record, library=library)
    if host:
        record = replace(
            record, model=_moved(record.model, host), library=record.library if library else _moved(record.library, host)
        )
    chosen = name or record.id.lower()
    if not store.ID.fullmatch(chosen):
        raise UnknownModel(f"{chosen!r} cannot be an id: give one with --id, up to 64 of a-z, 0-9, '.', '_' and '-'")
    return Remote(chosen, record)


def mirror(remote: Remote, line: Line | None = None, stream: TextIO | None = None) -> Path:
    """Fetch a model and return its folder on the shelf. Asks for nothing when it is there whole.

    Raises BuildError; state.json then says `failed`, with the code and message, unless another process has the model in hand.
    """
    with disk(store.root()), store.building(remote.id, remote.record.model):
        try:
            if folder := _there(remote):
                shutil.rmtree(_fetched(remote))  # a mirror that was killed after its last step left it
                return folder
            return _mirror(remote, line or Line(), stream)
        except Exception as error:  # an interruption is no failure: the next mirror goes on
            store.fail(remote.id, error)
            raise


def _there(remote: Remote) -> Path | None:
    """Return the folder of the model when it is here whole, from the same address.

    One that is damaged is removed, and what of its weights is sound taken for fetched.
    """
    folder, found = store.current(remote.id), dict[str, Any](files=[])
    if folder is None:
        return None
    try:
        found = store.manifest(remote.id)
        if found.get("mirrored", {}).get("model") != remote.record.model:
            return None
        manifest.verify(folder, found)
    except Damaged:
        fetched = _fetched(remote)
        (folder / store.MANIFEST).unlink(missing_ok=True)  # first: what is taken apart must not pass for built
        for item in found["files"]:
            file = folder / item["path"]
            if file.suffix == ".bin" and file.is_file() and manifest.describe(file, folder) == item:
                file.replace(fetched / file.name)
        shutil.rmtree(folder)
        return None
    return folder


def _fetched(remote: Remote) -> Path:
    """Return the folder of what has arrived."""
    folder = paths.home() / "mirrors" / remote.id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mirror(remote: Remote, line: Line, stream: TextIO | None) -> Path:
    record, folder = remote.record, _fetched(remote)
    _keep(folder, {})
    store.write(remote.id, "building", progress={"step": "files", "fraction": 0.0, "text": "asking what there is", "eta_s": None})
    config = _json(_fetch(line, record, folder / CONFIG))
    index = _json(_index(line, record, folder))
    wants = _wants(record, config, index)
    total = sum(want.bytes or 0 for want in wants.values())
    _keep(folder, wants)
    _room(folder, wants)
    progress = Progress(
        {"files": total / PACE + 1, "publish": 1.0}, lambda told: store.write(remote.id, "building", progress=told), stream
    )
    progress.step("files", f"fetching {record.id}")
    have = 0
    for path, want in wants.items():

        def hear(here: int, before: int = have, path: str = path) -> None:
            progress.at(
                (before + here) / max(total, before + here, 1),
                f"fetching {path}: {(before + here) / 1e6:.1f} of {total / 1e6:.1f} MB",
            )

        have += line.fetch(want, folder / path, hear).stat().st_size
    _card(line, record, folder)
    progress.step("publish", "checking and publishing")
    return _publish(remote, folder, config, index, progress)


def _fetch(line: Line, record: Record, file: Path, remote: str = "") -> Path:
    return line.fetch(Want(_address(record, remote or file.name), most=SMALL), file)


def _index(line: Line, record: Record, folder: Path) -> Path:
    """Return the index of the weights; models of before 2025 have it under its old name alone."""
    try:
        return _fetch(line, record, folder / INDEX)
    except NotThere:
        return _fetch(line, record, folder / INDEX, OLD_INDEX)


def _card(line: Line, record: Record, folder: Path) -> None:
    """Fetch the model's card, where it has one: it states the licence."""
    try:
        _fetch(line, record, folder / CARD)
    except NotThere:
        (folder / CARD).write_text("", encoding="utf-8")


def _wants(record: Record, config: dict[str, Any], index: dict[str, Any]) -> dict[str, Want]:
    """Return what else there is to fetch, by name. Raises SourceError for an index or configuration that is not one."""
    try:
        shards = {_plain(shard["dataPath"]): (int(shard["nbytes"]), shard.get("md5sum")) for shard in index["records"]}
        files = [_plain(name) for name in config["tokenizer_files"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{record.model} is no WebLLM model: its {CONFIG} or {INDEX} lacks or misuses {error}") from error
    if not shards or {CONFIG, INDEX, LIBRARY, CARD, store.MANIFEST} & {*shards, *files} or set(shards) & set(files):
        raise SourceError(f"{record.model} is no WebLLM model: no shards, or files that bear one another's names")
    wants = {name: Want(_address(record, name), size, md5, most=size) for name, (size, md5) in shards.items()}
    wants |= {name: Want(_address(record, name), most=SMALL) for name in files}
    return wants | {LIBRARY: Want(record.library, most=LARGE)}


def _keep(folder: Path, wants: dict[str, Want]) -> None:
    """Drop what an earlier try left, except parts (they know whose they are) and, of the files in `wants`, those that fit.

    With nothing in `wants` yet the shards stay, to be looked at when the fresh index says what they should be.
    """
    for file in folder.iterdir():
        want = wants.get(file.name)
        shard = not wants and file.suffix == ".bin"
        asked = file.name in {CONFIG, INDEX} and wants
        if not (shard or asked or ".part" in file.suffixes or (want and want.bytes is not None and fits(file, want))):
            file.unlink()


def _room(folder: Path, wants: dict[str, Want]) -> None:
    """Raise DiskFull before the first byte when what is known to come cannot fit."""
    missing = sum((want.bytes or 0) for name, want in wants.items() if not (folder / name).exists() and want.bytes)
    missing -= sum(part.stat().st_size for part in folder.glob("*.part"))
    free = shutil.disk_usage(folder).free
    if missing > free:
        text = f"{missing / 1e6:.1f} MB are still to come and {free / 1e6:.1f} MB free in {folder}: free some, or set HYBR_HOME"
        raise DiskFull(text)


def _publish(remote: Remote, folder: Path, config: dict[str, Any], index: dict[str, Any], progress: Progress) -> Path:
    from .build import compress

    record = remote.record
    _sound(folder, config, record)
    shaders = _validated(folder / LIBRARY, record)
    with steps.workspace(store.workplace(remote.id)) as made:
        for file in sorted(folder.iterdir()):
            if file.suffix != ".part" and not file.name.endswith(".part.json"):
                shutil.copyfile(file, made / file.name) if file.name == CONFIG else _link(file, made / file.name)
        steps.dump(config | record.overrides, made / CONFIG)
        stated = licence.of_card((made / CARD).read_text(encoding="utf-8", errors="replace"))
        (made / CARD).unlink()
        compress(made)
        found = manifest.mirrored(made, _facts(remote, config | record.overrides, index, stated, shaders))
        final = store.put(remote.id, made, found["rev"], remote.record.model)
    shutil.rmtree(folder)
    progress.done(f"{remote.id} is mirrored: {found['bytes'] / 1e6:.1f} MB in {final}")
    return final


def _facts(remote: Remote, config: dict[str, Any], index: dict[str, Any], stated: str, shaders: dict[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of the model besides its files."""
    record, told = remote.record, manifest.foreign(config, index)
    return told | {
        "id": remote.id,
        "name": record.id,
        "licence": stated,
        "origin": record.model,
        "kind": record.kind,
        "vision": record.vision,
        "vram_bytes": record.vram_bytes or told["vram_bytes"],
        "features": sorted({*record.features, *told["features"]}),  # most of the catalogue forgets to say that it needs halves
        "shaders": shaders,
        "mirrored": {"model": record.model, "library": record.library, "overrides": record.overrides},
    }


def _sound(folder: Path, config: dict[str, Any], record: Record) -> None:
    """Look at what has no sum of its own: the library is WebAssembly to its end, the tokenizer's files are JSON."""
    checked = [name for name in config["tokenizer_files"] if name.endswith(".json")]
    for name in checked:
        _json(folder / name)
    if not wasm.whole(folder / LIBRARY):
        (folder / LIBRARY).unlink()
        raise SourceError(f"{record.library} is no whole WebAssembly library; nothing of it was kept")


def _validated(library: Path, record: Record) -> dict[str, Any]:
    """Return what the validator says of the publisher's shaders: nothing where there is none, or they cannot be told apart.

    Raises SourceError for one that WebGPU refuses: no page could load such a library.
    """
    try:
        found = validate.modules(library.read_bytes().decode("latin-1"))
        taken = [validate.needs(code) for code in found.values()]
        validate.validator()
    except (CompileError, MissingTool):
        return {}
    if not found:
        return {}
    try:
        most = {limit: max(one[limit] for one in taken) for limit in validate.DEFAULTS}
        return {LIBRARY: validate.check(found, most).to_dict()}
    except CompileError as error:
        library.unlink()
        raise SourceError(f"{record.library} cannot be loaded by any page: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    """Return a file's object; one that holds none is removed, for it is an error page or was cut off. Raises SourceError."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        path.unlink()
        raise SourceError(
            f"{path.name} came, and is no JSON object: an error page, or cut off; it was removed, run the command again"
        )
    return found


def _link(file: Path, to: Path) -> None:
    try:
        to.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, to)


def _plain(name: object) -> str:
    """Return a file's name. Raises ValueError for one that leads elsewhere."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.endswith((".part", ".part.json", manifest.PACKED)):
        raise ValueError(f"the file name {name!r}")
    return name


def _address(record: Record, name: str) -> str:
    """Return a file's address as WebLLM makes it."""
    base = record.model.rstrip("/")
    return f"{base}/{name}" if "/resolve/" in base else f"{base}/resolve/main/{name}"


def _moved(url: str, host: str) -> str:
    """Return an address with another scheme and host."""
    there, here = urlsplit(host if "://" in host else f"https://{host}"), urlsplit(url)
    return urlunsplit((there.scheme, there.netloc, there.path.rstrip("/") + here.path, here.query, ""))


def _at(source: str, records: Callable[[], list[Record]], library: str | None) -> Record:
    """Return the record of an address: the catalogue's, on whichever host, or one with the library that was given."""
    base = source.split("/resolve/", maxsplit=1)[0].rstrip("/")
    if library is None:
        for record in records():
            if urlsplit(record.model).path == urlsplit(base).path:
                here = urlsplit(base)
                origin = f"{here.scheme}://{here.netloc}"
                same = urlsplit(record.model)[:2] == here[:2]
                return replace(record, model=base, library=record.library if same else _moved(record.library, origin))
        raise UnknownModel(f"{source} is not in WebLLM's catalogue: say where its library is, with --library URL")
    return prebuilt.Record(unquote(base.rsplit("/", 1)[-1]), source.rstrip("/"), library, 0, (), {})


def known() -> list[Record]:
    """Return WebLLM's catalogue, from the package that the page is made with."""
    from hybr.server.page import npm

    return prebuilt.read(npm.folder() / "@mlc-ai" / "web-llm" / "lib" / "index.js")
