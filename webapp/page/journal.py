"""Crash-safe answers: while one is written, the shell's journal (static/js/journal.js) holds what it takes to go on with it.

The journal is the browser's own storage, so private answers are in it too. A record is begun before the first token, grows with
the deltas that are shown, and is dropped when the answer has ended, however it did: what is found later was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer that was cut off. `closed`: it may not be finished in the cloud. `options` are those of its request."""

    id: str
    text: str
    provider: str | None = None
    segment: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    closed: bool = False


class Journal:
    """The Python end; `post` sends to the shell."""

    def __init__(self, post: Callable[[dict[str, Any]], None]) -> None:
        self._post = post

    def begin(self, answer_id: str, conversation: dict[str, Any], cut: Cut) -> None:
        """Record a request before it is made, with the text there already is; a record of the same id is replaced.

        `conversation` is as the shelf writes it: what is asked, and where. The rest is on the shelf.
        """
        record = {
            "conversation": conversation,
            "options": cut.options,
            "text": cut.text,
            "provider": cut.provider,
            "segment": cut.segment,
            "closed": cut.closed,
        }
        self._post({"kind": "journal", "op": "begin", "id": answer_id, "record": record})

    def end(self, answer_id: str) -> None:
        """The answer has ended, or the person has decided what becomes of it: nothing is left to recover."""
        self._post({"kind": "journal", "op": "end", "id": answer_id})


def cut_from(record: dict[str, Any]) -> Cut:
    """What the shell found in its journal. Raises KeyError and TypeError for what is no record of ours."""
    return Cut(
        id=str(record["id"]),
        text=str(record["text"]),
        provider=record.get("provider"),
        segment=int(record.get("segment") or 0),
        options=dict(record.get("options") or {}),
        closed=bool(record.get("closed")),
    )
