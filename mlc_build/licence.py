"""The licence of weights, as the checkpoint itself states it. Nothing but the standard library, and gguf to read one.

A GGUF says `general.license` (and where that is `other`, `general.license.name`); a folder in Hugging Face's layout says it in
the front matter of its README.md. What a checkpoint does not say is not guessed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSTATED = "not stated by the checkpoint"
FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
LONGEST = 100
# Written as people know it; the hub's names are lower-case.
KNOWN = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "gpl-3.0": "GPL-3.0", "cc-by-4.0": "CC-BY-4.0"}


def of_source(source: Mapping[str, Any]) -> str | None:
    """Return what a person's own checkpoint states; None for a source of the catalogue, whose licence that one names."""
    if source["kind"] == "gguf":
        from gguf import GGUFReader

        fields = GGUFReader(source["path"]).fields
        return of_gguf({name: field.contents() for name, field in fields.items() if name.startswith("general.license")})
    if source["kind"] == "safetensors":
        path = Path(source["path"])
        card = (path if path.is_dir() else path.parent) / "README.md"
        return of_card(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else UNSTATED
    return None


def of_card(text: str) -> str:
    """Return the licence in a README's front matter, with its link where it has one; `UNSTATED` without."""
    front = FRONT.match(text.replace("\r\n", "\n"))
    fields = dict(re.findall(r"^(license(?:_name|_link)?):[ \t]*(\S[^\n#]*)", front[1], re.MULTILINE)) if front else {}
    return _told({name: value.strip().strip("\"'") for name, value in fields.items()})


def of_gguf(fields: Mapping[str, object]) -> str:
    """Return the licence among a GGUF's fields (`general.license`, `general.license.name`, `general.license.link`)."""
    names = {
        "license": "general.license", "license_name": "general.license.name", "license_link": "general.license.link",
    }  # fmt: skip
    return _told({name: str(fields[key]) for name, key in names.items() if fields.get(key)})


def _told(fields: dict[str, str]) -> str:
    name = fields.get("license", "")
    if name.lower() in {"", "other", "unknown"}:
        name = fields.get("license_name", "") or name
    link = fields.get("license_link", "")
    told = KNOWN.get(name.lower(), name)
    if link and told not in KNOWN.values():
        told = f"{told} ({link})" if told else link
    return " ".join("".join(char if char.isprintable() else " " for char in told).split())[:LONGEST] or UNSTATED
