"""The licence of weights and where they come from, as the checkpoint itself states them. Standard library, and gguf to read one.

A GGUF says `general.license` (and where that is `other`, `general.license.name`), and names its source in several fields; a
folder in Hugging Face's layout says both in the front matter of its README.md. What a checkpoint does not say is not guessed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSTATED = "not stated by the checkpoint"
FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
LONGEST = 160
# Written as people know it; the hub's names are lower-case.
KNOWN = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "gpl-3.0": "GPL-3.0", "cc-by-4.0": "CC-BY-4.0"}


def of_source(source: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the licence and the origin (empty where it is not told) that a person's own checkpoint states.

    None for a source of the catalogue, which names both itself.
    """
    if source["kind"] == "gguf":
        from gguf import GGUFReader

        fields = {
            name: field.contents() for name, field in GGUFReader(source["path"]).fields.items() if name.startswith("general.")
        }
        return of_gguf(fields), origin_of_gguf(fields)
    if source["kind"] == "safetensors":
        path = Path(source["path"])
        card = (path if path.is_dir() else path.parent) / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        return of_card(text), origin_of_card(text)
    return None


def origin_of_gguf(fields: Mapping[str, object]) -> str:
    """Return where a GGUF says that its weights come from, the nearest first; empty where it does not.

    An address of its source, else of what it was made of (`general.base_model.0`), else organisation and name.
    """
    for name in ("source.url", "source.repo_url", "source.huggingface.repository", "repo_url", "url"):
        if told := fields.get(f"general.{name}"):
            return _plain(str(told))
    for kind in ("repo_url", "url"):
        if told := fields.get(f"general.base_model.0.{kind}"):
            return _plain(f"made of {told}")
    owner, called = (str(fields.get(f"general.{field}") or "") for field in ("organization", "name"))
    return _plain(f"{owner}, {called}" if owner and called else owner)


def origin_of_card(text: str) -> str:
    """Return what a card says that its model was made of (`base_model`, one or a list); empty where it does not."""
    front = FRONT.match(text.replace("\r\n", "\n"))
    found = (
        re.search(r"^base_model:[ \t]*(\[[^\]\n]*\]|[^\n#]*)((?:\n[ \t]*-[ \t]+[^\n]+)*)", front[1], re.MULTILINE)
        if front
        else None
    )
    if not found:
        return ""
    inline, lines = found[1].strip().strip("[]").split(","), re.findall(r"-[ \t]+([^\n#]+)", found[2])
    names = [name.strip().strip("\"'") for name in (*inline, *lines)]
    return _plain(" and ".join(f"made of {name}" if not i else name for i, name in enumerate(filter(None, names))))


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
    return _plain(told) or UNSTATED


def _plain(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:LONGEST]
