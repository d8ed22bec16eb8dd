"""Server-Sent Events out of bytes in any pieces, as the HTML standard reads them, but with bounds.

Lines end with LF, CRLF or CR; a byte order mark, comments and fields other than `data` are skipped; the data lines of one event
are joined. Text is decoded by whole events, so a character cut in two by the network is never seen.
"""

from __future__ import annotations

EVENT = 1024 * 1024  # bytes: no provider sends such an event, and whoever does is filling our memory
MARK = b"\xef\xbb\xbf"


class OverflowingError(ValueError):
    """An event larger than EVENT."""


class Decoder:
    """Feed it bytes, take the data of whole events; `flush` gives one that the end cut off from its blank line."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of each event that `piece` completes. Raises OverflowingError."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if not piece:
            return []
        self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *ends, rest = piece.split(b"\n")
        events = []
        for end in ends:
            line = bytes(self._line + end)
            self._line.clear()
            if (event := self._take(line)) is not None:
                events.append(event)
        self._line += rest
        if len(self._line) + self._size > EVENT:
            raise OverflowingError
        return events

    def flush(self) -> list[str]:
        """Return what the end of the stream left without its line end or blank line."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes) -> str | None:
        if self._first:
            line, self._first = line.removeprefix(MARK), False
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
            if self._size > EVENT:
                raise OverflowingError
        elif not line and self._data:
            event = b"\n".join(self._data).decode("utf-8", "replace")
            self._data, self._size = [], 0
            return event
        return None
