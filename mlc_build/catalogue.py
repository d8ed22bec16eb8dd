"""The models that can be built here, as data (`catalogue.json`) and as entries. Nothing but the standard library.

Each model has one default quantisation, whose artifact bears the model's own id; the others add the quantisation to it:
`smollm2-135m` is q4e8f32_1 and `smollm2-135m-q0f32` the float one.

`template.drop_default_system` is a decision about content: the checkpoint's own template adds a system turn when the conversation
has none, and ours does not (SmolLM2-135M answers capitals wrongly with that turn, rightly without).
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UnknownModel, UnknownQuantisation

FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Entry:
    """One artifact that can be built.

    Attributes:
        id: what it is called on disk, in URLs and in the page.
        base: the model's id, without the quantisation.
        name: what a person reads.
        family: architecture, as the compiler names it.
        quantisation: one of `quantise.FORMS`.
        source: where the weights come from (`kind` is `wheel`, `seeded`, or of a person's own: `gguf` or `safetensors`).
        licence: of the weights.
        origin: of the weights, for a person.
        context: window in tokens; 0 for what the checkpoint has.
        prefill_chunk: most tokens of one prefill call.
        test_only: not offered to people.
        sampling: default temperature and top_p.
        template: overrides of the checkpoint's conversation template.
        kind: `chat`, or `embedding` for one that makes vectors of texts.

    """

    id: str
    base: str
    name: str
    family: str
    quantisation: str
    source: dict[str, Any]
    licence: str
    origin: str
    context: int
    prefill_chunk: int
    test_only: bool
    sampling: dict[str, float]
    template: dict[str, Any]
    kind: str = "chat"

    def public(self) -> dict[str, Any]:
        """Return the fields that manifests and `/models/index.json` carry."""
        names = ("id", "name", "family", "quantisation", "context", "licence", "origin", "test_only", "kind")
        return {name: getattr(self, name) for name in names}


def entries() -> list[dict[str, Any]]:
    """Return the public fields of every model in its default quantisation, in the catalogue's order."""
    return [find(model["id"]).public() for model in _models()]


def everything() -> list[Entry]:
    """Return every artifact that can be built, each model's default first."""
    return [_entry(model, quantisation) for model in _models() for quantisation in model["quantisations"]]


def find(name: str, quantisation: str | None = None) -> Entry:
    """Return the entry called `name`, or the model `name` in another quantisation.

    Raises UnknownModel with the ids there are, UnknownQuantisation with those the model has.
    """
    known = {entry.id: entry for entry in everything()}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, 1)
        perhaps = f"did you mean {near[0]}? There" if near else "there"
        nowhere = ", and no such file or folder" if "/" in name or "." in name else ""
        raise UnknownModel(f"no model {name!r} in the catalogue{nowhere}; {perhaps} are {', '.join(known)}")
    if quantisation is None:
        return known[name]
    variants = {entry.quantisation: entry for entry in known.values() if entry.base == known[name].base}
    if quantisation not in variants:
        raise UnknownQuantisation(f"{name} is not built in {quantisation!r}; choose {' or '.join(variants)}")
    return variants[quantisation]


@cache
def _models() -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["models"]
    return models


def _entry(model: dict[str, Any], quantisation: str) -> Entry:
    default = quantisation == model["quantisations"][0]
    return Entry(
        id=model["id"] if default else f"{model['id']}-{quantisation}",
        base=model["id"],
        name=model["name"] if default else f"{model['name']}, {quantisation}",
        quantisation=quantisation,
        **{key: value for key, value in model.items() if key not in {"id", "name", "quantisations"}},
    )
