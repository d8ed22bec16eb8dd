"""WebLLM's own catalogue, as the installed package carries it: which models it offers, and where their files are published.

Read out of the package's JavaScript, without running it: the list is an array of object literals whose values are strings,
numbers, booleans, and sums of strings and constants. No host is written here: that package says who publishes those models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import SourceError, UnknownModel

if TYPE_CHECKING:
    from pathlib import Path

CONSTANT = re.compile(r'^const (\w+) = ("[^"\n]*");$', re.MULTILINE)
CALLERS = re.compile(r"^const functionCallingModelIds = \[(.*?)^\];$", re.MULTILINE | re.DOTALL)
LIST = re.compile(r"^const prebuiltAppConfig = \{(.*?)^\};$", re.MULTILINE | re.DOTALL)
RECORD = re.compile(r"^        \{$(.*?)^        \},?$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """A model of WebLLM's catalogue.

    Attributes:
        id: as WebLLM calls it.
        model: address of the folder with weights, tokenizer and configuration.
        library: address of the compiled library.
        vram_bytes: what WebLLM says it needs; 0 when it does not say.
        features: WebGPU features it asks for.
        overrides: whole numbers that go over those of the model's configuration.
        vision: whether it reads pictures.
        tools: whether WebLLM takes tools for it.
        kind: `chat` or `embedding`.

    """

    id: str
    model: str
    library: str
    vram_bytes: int
    features: tuple[str, ...]
    overrides: dict[str, int]
    vision: bool = False
    tools: bool = False
    kind: str = "chat"


def read(script: Path) -> list[Record]:
    """Return the records of the package's `lib/index.js`. Raises SourceError when it is missing or holds no such list."""
    try:
        text = script.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"WebLLM's catalogue cannot be read ({error}); run: make setup") from error
    constants = {name: value.strip('"') for name, value in CONSTANT.findall(text)}
    found = LIST.search(text)
    callers = set(re.findall(r'"([^"]+)"', called[1])) if (called := CALLERS.search(text)) else set()
    records = [_record(body, constants, callers) for body in RECORD.findall(COMMENT.sub("", found[1]))] if found else []
    if not records:
        raise SourceError(f"{script} holds no prebuiltAppConfig: another version of WebLLM than this was written for")
    return records


def find(name: str, records: list[Record]) -> Record:
    """Return the record of an id, in whichever case. Raises UnknownModel, with the ids that are close."""
    for record in records:
        if record.id.lower() == name.lower():
            return record
    near = [record.id for record in records if name.lower() in record.id.lower()][:8]
    hint = f"; near: {', '.join(near)}" if near else ""
    raise UnknownModel(f"WebLLM's catalogue has no model {name!r} among its {len(records)}{hint}")


def _record(body: str, constants: dict[str, str], callers: set[str]) -> Record:
    name = _text("model_id", body, constants)
    vram = re.search(r"vram_required_MB: ([\d.]+)", body)
    features = re.search(r"required_features: \[([^\]]*)\]", body)
    overrides = re.search(r"overrides: \{([^}]*)\}", body)
    return Record(
        id=name,
        model=_text("model", body, constants),
        library=_text("model_lib", body, constants),
        vram_bytes=round(float(vram[1]) * 1e6) if vram else 0,
        features=tuple(re.findall(r'"([^"]+)"', features[1])) if features else (),
        overrides={name: int(value) for name, value in re.findall(r"(\w+): (-?\d+)", overrides[1])} if overrides else {},
        vision="ModelType.VLM" in body,
        tools=name in callers,
        kind="embedding" if "ModelType.embedding" in body else "chat",
    )


def _text(field: str, body: str, constants: dict[str, str]) -> str:
    """Return a field's value: strings and constants, added up."""
    found = re.search(rf"^\s*{field}:(.*?),$", body, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SourceError(f"a record of WebLLM's catalogue has no {field}: another version than this was written for")
    parts = [part.strip() for part in found[1].split("+")]
    try:
        return "".join(part.strip('"') if part.startswith('"') else constants[part] for part in parts)
    except KeyError as error:
        raise SourceError(f"{field} in WebLLM's catalogue adds {error}, which is no constant of that file") from error
