"""WebLLM's own list of models, made small for the page: which there are, where their files are, and whom a browser must ask.

    {"hosts": {<origin>: [other origins that it sends one on to]}, "models": [{"id", "model", "library", "vram_bytes", ...}]}

The list is the vendored package's own (`mlc_build.prebuilt`). Nothing of it is fetched unless a person asks for such a model and
allows its hosts (`server/hosts.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybr.mlc_build import prebuilt

if TYPE_CHECKING:
    from pathlib import Path

    from hybr.mlc_build.prebuilt import Record

# A policy judges where a redirect leads as well, and this host sends every large file on to storage of its own, whose names
# change by region and over the years (its documentation on downloads through a firewall lists them).
SENDS_ON = {"https://huggingface.co": ["https://*.huggingface.co", "https://*.hf.co"]}


def listed(modules: Path) -> bytes:
    """Return the list as JSON. Raises BuildError's kin, SourceError, where the package holds none."""
    records = prebuilt.read(modules / "@mlc-ai" / "web-llm" / "lib" / "index.js")
    models = [told(record) for record in records if record.kind == "chat"]
    asked = sorted({origin(model[part]) for model in models for part in ("model", "library")})
    hosts = {one: SENDS_ON.get(one, []) for one in asked}
    return json.dumps({"hosts": hosts, "models": models}, separators=(",", ":")).encode()


def told(record: Record) -> dict[str, Any]:
    """Return what the page needs of one."""
    whole = {
        "id": record.id,
        "model": record.model,
        "library": record.library,
        "vram_bytes": record.vram_bytes,
        "features": list(record.features),
        "overrides": record.overrides,
        "vision": record.vision,
        "tools": record.tools,
    }
    return {name: value for name, value in whole.items() if value}


def origin(address: str) -> str:
    """Return scheme and host."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
