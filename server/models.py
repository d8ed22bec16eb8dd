"""The models' shelf: what there is, how far a build is, and the files themselves.

The compiler owns the shelf (`hybr.mlc_build.store`); the server reads `state.json` and `manifest.json` as they are on disk at
each request, so that a build in another process shows without any talk between the two. Only files that a manifest lists
and the GGUF it was built from are served: the list is the defence against traversal, the path is merely looked up in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from hybr.mlc_build import catalogue, sources
from hybr.mlc_build.errors import BuildError
from hybr.mlc_build.lock import alive
from hybr.server.errors import NotFoundError
from hybr.server.files import FOREVER, REVALIDATE, not_modified, send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
REV = re.compile(r"[0-9a-f]{16}")
LIBRARIES = {"gpu": "model.wasm", "subgroups": "model-subgroups.wasm", "software": "model-software.wasm"}
# What the index says of every model, and what it says before a manifest exists.
FIELDS: dict[str, Any] = {
    "name": "",
    "family": "",
    "quantisation": "",
    "bytes": 0,
    "vram_bytes": 0,
    "features": [],
    "limits": {},
    "context": 0,
    "licence": "",
    "origin": "",
    "test_only": False,
    "kind": "chat",
}


QUEUED = {"step": "queued", "fraction": 0.0, "text": "waiting for its turn", "eta_s": None}


class Models:
    """The shelf at `root` (`$HYBR_HOME/models`); `listed` returns the entries that could be built, in order."""

    def __init__(self, root: Path, listed: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self.root = root
        self.catalogue = listed
        self.queued: set[str] = set()  # ids whose build will start in this process: the page waits for them as for a running one
        self._manifests: dict[tuple[str, str], Manifest] = {}

    async def index(self, request: Request) -> Response:
        """Answer `/models/index.json`."""
        body = json.dumps({"schema": 1, "models": self.entries()}, separators=(",", ":")).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"cache-control": REVALIDATE, "etag": tag}
        if not_modified(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def file(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `/models/<id>/<rev>/[resolve/main/]<path>`."""
        parameters = scope["path_params"]
        manifest = self.manifest(parameters["id"], parameters["rev"])
        name = parameters["path"].removeprefix("resolve/main/")
        path = manifest and (manifest.files.get(name) or weights(parameters["id"], name))
        if not path or not path.is_file():
            raise NotFoundError("no such model file; /models/index.json lists what there is", code="no_such_file")
        await send_file(path, scope, receive, send, cache=FOREVER)

    def entries(self) -> list[dict[str, Any]]:
        """Return the index's entries: the catalogue's, then whatever else lies on the shelf."""
        listed = list(self.catalogue())
        known = {entry["id"] for entry in listed}
        shelf = sorted(path.parent.name for path in self.root.glob("*/state.json"))
        strays = [{"id": name} for name in shelf if name not in known and NAME.fullmatch(name)]
        return [self.entry(one) for one in [*listed, *strays]]

    def entry(self, listed: dict[str, Any]) -> dict[str, Any]:
        """Return one model's entry: the catalogue's fields under the manifest's, and the state of its build."""
        name = listed["id"]
        path = self.root / name / "state.json"
        state = read_state(path)
        while (manifest := self.manifest(name, state.get("rev") or "")) is None and (now := read_state(path)) != state:
            state = now  # that revision was replaced between the two looks
        told = {**listed, **(manifest.content if manifest else {})}
        entry: dict[str, Any] = {"id": name, **{key: told.get(key, default) for key, default in FIELDS.items()}}
        entry |= {"vision": True} if told.get("vision") else {}
        entry |= {"state": state["state"], "progress": state.get("progress"), "error": state.get("error")}
        if manifest is None and entry["state"] == "built":
            entry["state"] = "missing"
        if name in self.queued and entry["state"] in {"missing", "failed"}:
            entry |= {"state": "building", "progress": QUEUED, "error": None}
        return entry | (
            self.built(name, manifest) if manifest else {"sha256": None, "base": None, "libraries": {}, "files": [], "gguf": None}
        )

    def built(self, name: str, manifest: Manifest) -> dict[str, Any]:
        """Return the part of an entry that only a built model has. A model that is being rebuilt still has its last one."""
        files = manifest.content.get("files", [])
        present = {key: path for key, path in LIBRARIES.items() if path in manifest.files}
        base = f"/models/{name}/{manifest.rev}/"
        return {
            "sha256": manifest.sha256,
            "base": base,
            "libraries": present,
            "files": files,
            "gguf": gguf(name, files),
            "state": "built",
        }

    def manifest(self, name: str, rev: str) -> Manifest | None:
        """Return the manifest of a finished build, or None.

        Kept in memory while the file is the same: a newer compiler may have more to say of a revision's files.
        """
        if not NAME.fullmatch(name) or not REV.fullmatch(rev):
            return None
        folder, kept = self.root / name / rev, self._manifests.get((name, rev))
        try:
            written = (folder / "manifest.json").stat().st_mtime_ns
            if kept is None or kept.written != written:
                kept = self._manifests[name, rev] = Manifest(folder, rev, written)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return kept


class Manifest:
    """One finished build: what manifest.json says, and where each listed file is.

    Raises OSError, ValueError, KeyError or TypeError for one that is missing or not in the agreed form.
    """

    def __init__(self, folder: Path, rev: str, written: int) -> None:
        raw = (folder / "manifest.json").read_bytes()
        self.rev = rev
        self.written = written
        self.sha256 = hashlib.sha256(raw).hexdigest()
        self.content: dict[str, Any] = json.loads(raw)
        names = [str(item["path"]) for item in self.content["files"]]
        if any(name.startswith("/") or ".." in name.split("/") for name in names):
            raise ValueError("a manifest may list only files beside it")
        self.files = {name: folder / name for name in [*names, "manifest.json"]}


def gguf(name: str, files: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the model's weights for llama.cpp in the page, `{path, bytes, sha256, sampling, plain}`; None if there are none.

    That is the very file the model was built from, served under the revision's address from where the compiler and the house
    keep it: pinned by its sum, never copied. A seeded model has none, so its build makes one.
    """
    try:
        entry = catalogue.find(name)
    except BuildError:
        return None  # on the shelf, but not of the catalogue
    made = next((item for item in files if item["path"].endswith(".gguf")), None)
    source = entry.source
    if made is None and str(source.get("member", "")).endswith(".gguf") and sources.present(source):
        made = {"path": sources.location(source).name, "bytes": source["member_bytes"], "sha256": source["member_sha256"]}
    if made is None:
        return None
    told = {key: made[key] for key in ("path", "bytes", "sha256")}
    return told | {"sampling": entry.sampling, "plain": bool(entry.template.get("drop_default_system"))}


def weights(name: str, path: str) -> Path | None:
    """Return where the GGUF lies that model `name` was built from, if that is what `path` asks for."""
    told = gguf(name, [])
    return sources.location(catalogue.find(name).source) if told and told["path"] == path else None


def read_state(path: Path) -> dict[str, Any]:
    """Return what state.json says; `missing` when there is none, or when the builder that wrote it is gone."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {"state": "missing"}
    if not isinstance(state, dict):
        return {"state": "missing"}
    if state.get("state") == "building" and not alive(state.get("pid")):
        return {"state": "missing", "rev": state.get("rev")}
    return state if state.get("state") in {"built", "building", "failed"} else {"state": "missing"}
