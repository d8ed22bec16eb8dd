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
        lines = piece.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._line:
                lines[0] = bytes(self._line) + lines[0]
                self._line.clear()
            if self._first:
                lines[0], self._first = lines[0].removeprefix(MARK), False
        events = self._take(lines)
        self._line += rest
        if len(self._line) + self._size > EVENT:
            raise OverflowingError
        return events

    def flush(self) -> list[str]:
        """Return what the end of the stream left without its line end or blank line."""
        return self.feed(b"\n\n")

    def _take(self, lines: list[bytes]) -> list[str]:
        """Return the data of the events that whole lines complete."""
        events = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
                if self._size > EVENT:
                    raise OverflowingError
            elif not line and data:
                events.append((data[0] if len(data) == 1 else b"\n".join(data)).decode("utf-8", "replace"))
                data.clear()
                self._size = 0
        return events
