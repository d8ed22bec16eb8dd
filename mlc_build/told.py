"""What a checkpoint tells of itself, read with suspicion: each value by its name, of the kind and in the range it must have.

A config.json or a GGUF's header is written by somebody else. A text for a number, a list where one is wanted, NaN, or a zero
that would be divided by is a SourceError here, with the field's name, and not a TypeError in the middle of something.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST = 2**31 - 1
POINTER = b"version https://git-lfs"
TORCH = (
    "take the model's safetensors or GGUF, or write them with transformers: "
    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)
"""What to do about weights in PyTorch's own format."""


class Told:
    """Named values of one file; `where` stands in messages (`config.json`, `the checkpoint`)."""

    def __init__(self, values: Mapping[str, Any], where: str, prefix: str = "") -> None:
        self.values, self.where, self.prefix = values, where, prefix

    def under(self, prefix: str) -> Told:
        """Return the same values, asked for by names that lack `prefix`."""
        return Told(self.values, self.where, prefix)

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Return a value as it is; `otherwise` where there is none."""
        found = self.values.get(self.prefix + name)
        return otherwise if found is None else found

    def need(self, name: str) -> Any:
        """Return a value as it is. Raises SourceError where there is none."""
        found = self.get(name)
        if found is None:
            raise SourceError(f"{self.prefix}{name} is missing in {self.where}; it is damaged or of another family")
        return found

    def whole(self, name: str, otherwise: int | None = None, least: int = 1, most: int = MOST) -> int:
        """Return a whole number. Raises SourceError for anything else, and where there is none and no `otherwise`."""
        found = self.need(name) if otherwise is None else self.get(name, otherwise)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
            raise self._wrong(name, found, f"a whole number from {least} to {most}")
        return found

    def flag(self, name: str, otherwise: bool) -> bool:
        """Return true or false. Raises SourceError for anything else: a text that says false would count as true."""
        found = self.get(name, otherwise)
        if not isinstance(found, bool):
            raise self._wrong(name, found, "true or false")
        return found

    def real(self, name: str, otherwise: float | None = None, *, zero: bool = False) -> float:
        """Return a positive number, or zero where that may be. Raises SourceError for anything else, NaN and infinity too."""
        found = self.need(name) if otherwise is None else self.get(name, otherwise)
        fits = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
        if not fits or found < 0 or (found == 0 and not zero):
            raise self._wrong(name, found, f"a finite number {'from' if zero else 'above'} 0")
        return float(found)

    def reals(self, name: str, length: int) -> tuple[float, ...]:
        """Return a list of so many positive numbers. Raises SourceError for anything else."""
        found = self.need(name)
        if not isinstance(found, list) or len(found) != length:
            has = f"lists {len(found)} factors" if isinstance(found, list) else f"is {_short(found)}"
            raise SourceError(f"{self.prefix}{name} in {self.where} {has}; a head of {2 * length} needs {length}")
        one = Told({str(i): x for i, x in enumerate(found)}, f"{self.prefix}{name} of {self.where}")
        return tuple(one.real(str(i)) for i in range(length))

    def part(self, name: str) -> dict[str, Any]:
        """Return an object, empty where there is none. Raises SourceError for anything else."""
        found = self.get(name, {})
        if not isinstance(found, dict):
            raise self._wrong(name, found, "an object")
        return found

    def _wrong(self, name: str, found: Any, wanted: str) -> SourceError:
        return SourceError(f"{self.prefix}{name} in {self.where} is {_short(found)}; it must be {wanted}")


def fetched(file: Path) -> Path:
    """Return `file`. Raises SourceError where it is what Git leaves of a large file that it has not fetched."""
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise SourceError(f"{file} is Git's pointer to a file, not the file: run git lfs pull in {file.parent}")
    return file


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn whatever a file of unforeseen contents brings about inside the block into a SourceError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise SourceError(f"{what} cannot be read ({reason}); it is damaged, or of a kind that is not known here") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
