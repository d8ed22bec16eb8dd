"""What was asked, and what there is of an answer: its text, who wrote which part of it, what it has spent, how it came to be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.leg import NO_USAGE

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Message, Options, Part, Provider, Usage


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what is asked, checked, and what of its answer was shown before (`prefix`, written `by` that side)."""

    messages: tuple[Message, ...]
    options: Options
    streaming: bool
    prefix: str = ""
    by: Provider = "local"


@dataclass(slots=True)
class Answer:
    """What there is of an answer, and how it came to be."""

    text: str = ""
    segment: int = 0
    parts: list[Part] = field(default_factory=list)
    spent: Usage = NO_USAGE
    cost: float | None = 0.0
    decision: str = ""
    fallback: dict[str, Any] | None = None
    handover: dict[str, Any] | None = None
    hedge: dict[str, Any] | None = None
    trimmed: int = 0
    note: str = ""

    def units(self) -> int:
        """The text's length as JavaScript counts it."""
        return len(self.text.encode("utf-16-le")) // 2

    def strike(self) -> None:
        """The text begins anew; what was shown is kept in its parts."""
        units, ends = self.text.encode("utf-16-le"), [part.start for part in self.parts[1:]] + [self.units()]
        for index, (part, end) in enumerate(zip(self.parts, ends, strict=True)):
            if not part.struck:
                told = units[part.start * 2 : end * 2].decode("utf-16-le", "replace")
                self.parts[index] = replace(part, struck=True, text=told)
        self.text = ""
