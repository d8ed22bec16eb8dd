"""What the server writes about itself: one line an event, JSON for machines or plain on a terminal, and nothing private.

A line has time, level, logger, message, the request's id where there is one, and the fields that the access log adds. It never
has a prompt, an answer, a body, a query string or a key: the access log knows none of them, texts shaped like keys become ***,
and of an exception that is not our own only the type and the places are told, for its message can hold what somebody wrote
(with --log-level debug it is told too). Control characters are escaped, so no text can begin a line of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from hybr.server.secret import SHAPES

if TYPE_CHECKING:
    from hybr.server.config import Settings

REQUEST: ContextVar[str] = ContextVar("request", default="")
"""The id of the request on whose behalf the current task runs."""

LONGEST = 2000  # characters of a message
OURS = "hybr."


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (default: stderr) in the form that the settings ask for."""
    stream = stream or sys.stderr
    form = settings.log_format
    if form == "auto":
        form = "text" if stream.isatty() else "json"
    open_ = settings.log_level == "debug"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Text(open_=open_) if form == "text" else Json(open_=open_))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Which requests are logged is a setting of its own; DEBUG of these prints every frame and every statement with its values.
    logging.getLogger("hybr.access").setLevel(logging.INFO)
    for name in ("sqlalchemy", "aiosqlite", "asyncio", "uvicorn"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class Formatter(logging.Formatter):
    """What both forms share; `open_` tells the messages of exceptions that are not ours."""

    def __init__(self, *, open_: bool = False) -> None:
        super().__init__()
        self.open_ = open_

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the line's fields."""
        told: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(message(record)),
        }
        if request := getattr(record, "request", "") or REQUEST.get():
            told["request"] = request
        told |= {name: clean(value) if isinstance(value, str) else value for name, value in getattr(record, "fields", {}).items()}
        if record.exc_info and record.exc_info[1]:
            told["error"] = self.error(record.exc_info[1])
        return told

    def error(self, error: BaseException) -> list[str]:
        """Return an exception as lines: its places, its type, and its message where that is ours or asked for."""
        lines: list[str] = []
        seen: BaseException | None = error
        while seen is not None and len(lines) < 200:
            open_ = self.open_ or type(seen).__module__.startswith(OURS)
            text = f"{type(seen).__name__}: {seen}" if open_ else type(seen).__name__
            frames = traceback.extract_tb(seen.__traceback__)
            lines += [clean(text), *(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))]
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        return lines


class Json(Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(self.fields(record), default=str)


class Text(Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and an exception's lines under it."""
        told = self.fields(record)
        error = told.pop("error", [])
        begin = f"{told.pop('time')[11:19]} {told.pop('level'):7} {told.pop('logger').removeprefix(OURS)}: {told.pop('message')}"
        rest = " ".join(f"{name}={value}" for name, value in told.items())
        return "\n    ".join([f"{begin} [{rest}]" if rest else begin, *error])


def message(record: logging.LogRecord) -> str:
    """Return the record's message; of asyncio's the first line, for the others show the exception and with it its message."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  a wrong placeholder must not cost the line
        text = str(record.msg)
    return text.partition("\n")[0] if record.name == "asyncio" else text


def clean(text: str) -> str:
    """Return the text on one line, without what is shaped like a key or an address, and not long."""
    shown = SHAPES.sub("***", text[: 2 * LONGEST])[:LONGEST]
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)
