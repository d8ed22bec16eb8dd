"""Small helpers over `Transport`: a whole JSON body, and Server-Sent Events out of bytes in any pieces."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr.webapp.runtimes.base import Response

MAX_EVENT = 1_000_000  # characters; the server's own limit for one event is of this size


async def read_json(response: Response) -> Any:
    """The body as JSON, the connection freed. Raises ValueError when it is not JSON."""
    body = b""
    try:
        async for piece in response.chunks():
            body += piece
    finally:
        await response.close()
    return json.loads(body)


class EventStream:
    """Decodes `data:` fields of Server-Sent Events incrementally.

    Bytes may be cut anywhere: inside a character, between CR and LF, within a field. Lines end with LF, CRLF or CR; comments and
    other fields are skipped; several data lines of one event are joined by a newline (the HTML standard's parsing rules). `flush`
    gives an event that the stream's end cut off from its blank line. Raises ValueError for an event without an end.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._data: list[str] = []
        self._size = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of each event that `piece` completes."""
        return self._lines(self._decoder.decode(piece))

    def flush(self) -> Iterator[str]:
        """The data of a last event that had no blank line after it."""
        yield from self._lines(self._decoder.decode(b"", final=True) + "\n\n")

    def _lines(self, text: str) -> Iterator[str]:
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
        if text:
            self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > MAX_EVENT:
            raise ValueError(f"an event of more than {MAX_EVENT} characters")
        for line in lines:
            if line.startswith("data:"):
                self._take(line[5:].removeprefix(" "))
            elif line == "data":
                self._take("")
            elif not line and self._data:
                event, self._data, self._size = "\n".join(self._data), [], 0
                yield event

    def _take(self, data: str) -> None:
        self._size += len(data)
        if self._size > MAX_EVENT:
            raise ValueError(f"an event of more than {MAX_EVENT} characters")
        self._data.append(data)
