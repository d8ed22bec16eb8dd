"""The page's conversation: takes what a person does in the composer, keeps the turns, streams answers into the view.

The conversation goes to the model as it is, with no system turn of ours. What was shown is kept: a stopped or failed answer
stays in the view, and what there is of it goes along with the next turn, so that the model sees what the person sees.

An answer that a reload or a crash cut off comes back as it was shown (`restore`), and waits for the person to say what becomes
of it: gone on with here, finished in the cloud, or kept as it is. Writing on without a word means the last.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from hybr.webapp.hybrid.errors import Aborted, CallerError, HybridError
from hybr.webapp.hybrid.gate import POLICIES
from hybr.webapp.page import convert
from hybr.webapp.page.journal import Cut, Journal, cut_from

if TYPE_CHECKING:
    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.hybrid.stream import ChunkStream
    from hybr.webapp.hybrid.types import Chunk, Message, Provider

log = logging.getLogger(__name__)


class View(Protocol):
    """Where answers are drawn."""

    def op(self, op: dict[str, Any]) -> None:
        """Draw one view op (static/js/protocol.js)."""
        ...

    def delta(self, message_id: str, delta: str, provider: str, segment: int, *, restart: bool = False) -> None:
        """Append text to a message; `restart` strikes what it has so far."""
        ...


class Chat:
    """One conversation at a time; one answer at a time. A turn is `{id, role, text}` and for an answer what its end said."""

    def __init__(self, hybrid: HybridLLMProvider, view: View, journal: Journal) -> None:
        self._hybrid = hybrid
        self._view = view
        self._journal = journal
        self._turns: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self._answering = ""
        self._shown = ""
        self._cut: Cut | None = None
        self.egress = "allow"

    @property
    def messages(self) -> list[Message]:
        """The conversation, as the next request will send it."""
        turns = [*self._turns, {"role": "assistant", "text": self._cut.text}] if self._cut else self._turns
        return [{"role": turn["role"], "content": turn["text"]} for turn in turns if turn["text"].strip()]

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._answering)

    def take(self, event: dict[str, Any]) -> None:
        """One event of the shell's controls: `send`, `stop`, `retry`, `new-conversation`, `resume`, `keep`."""
        kind = event.get("event")
        if kind == "send":
            self._send(str(event.get("text") or ""))
        elif kind == "stop":
            self.stop()
        elif kind == "retry":
            self._retry()
        elif kind == "new-conversation":
            self._clear()
        elif kind == "resume":
            self._resume("cloud" if event.get("on") == "cloud" else "local")
        elif kind == "keep":
            self._keep()
        else:
            log.warning("unknown event of the shell: %r", kind)

    def stop(self) -> bool:
        """Stop the answer under way; True if there was one."""
        return bool(self._answering) and self._hybrid.abort(self._answering)

    def set_egress(self, policy: object) -> bool:
        """What may leave the browser of this conversation; the page's own policy may be stricter. False for what is none."""
        if policy not in POLICIES:
            log.warning("set_egress(%r): there are: %s", policy, ", ".join(POLICIES))
            return False
        self.egress = str(policy)
        return True

    # -- what outlives a document

    def pack(self) -> dict[str, Any]:
        """The conversation for another document. What is under way ends here, as far as it has come."""
        self._keep()
        turns = list(self._turns)
        if self._answering:
            turns.append({"id": self._answering, "role": "assistant", "text": self._shown, "state": "stopped"})
            self._journal.end(self._answering)
            self.stop()
        return {"turns": turns, "egress": self.egress}

    def restore(self, conversation: dict[str, Any], cut: Cut | None = None) -> None:
        """Show a conversation that another document had, and under it the answer that was `cut` off."""
        if self._turns or self._answering:
            return  # the person was quicker
        self.set_egress(conversation.get("egress", "allow"))
        for turn in conversation["turns"]:
            self._draw({**turn, "id": self._new("user" if turn["role"] == "user" else "answer")})
        if cut:
            self._cut = cut
            self._open(cut, "stopped")
            self._view.op({"type": "interrupted", "id": cut.id, "cloud": not cut.closed})

    def _draw(self, turn: dict[str, Any]) -> None:
        self._turns.append(turn)
        shown = {name: turn.get(name) for name in ("id", "role", "text", "provider", "model")}
        state = turn.get("state") or "done"
        self._view.op({"type": "message", **shown, "state": state})
        if turn["role"] != "user":
            self._view.op({**turn, "type": "finish", "state": state})

    # -- turns

    def _new(self, kind: str) -> str:
        return f"{kind}-{next(self._ids)}"

    def _send(self, text: str) -> None:
        if not text.strip():
            return
        if self._answering:
            self._view.op({"type": "toast", "toast": "info", "text": "One answer at a time: stop this one, or wait for it."})
            return
        self._keep()
        turn = {"id": self._new("user"), "role": "user", "text": text}
        self._turns.append(turn)
        self._view.op({"type": "message", **turn, "state": "done"})
        self._answer(Cut(f"answer-{uuid.uuid4()}", ""))

    def _retry(self) -> None:
        """Ask the last question again."""
        if self._answering or not any(turn["role"] == "user" for turn in self._turns):
            return
        self._keep()
        while self._turns[-1]["role"] != "user":
            self._turns.pop()
        self._answer(Cut(f"answer-{uuid.uuid4()}", ""))

    def _clear(self) -> None:
        self.stop()
        for answer in (self._answering, self._cut.id if self._cut else ""):
            if answer:
                self._journal.end(answer)
        self._answering, self._cut, self._turns, self.egress = "", None, [], "allow"
        self._view.op({"type": "clear"})
        self._view.op({"type": "busy", "value": False})

    # -- an answer that was cut off

    def _keep(self) -> None:
        """The cut answer stays as it is."""
        cut, self._cut = self._cut, None
        if cut is None:
            return
        self._journal.end(cut.id)
        turn = {"id": cut.id, "role": "assistant", "text": cut.text, "state": "stopped", "provider": cut.provider}
        self._turns.append(turn)
        self._view.op({**turn, "type": "finish"})

    def _resume(self, side: str) -> None:
        cut, self._cut = self._cut, None
        if cut is None or self._answering:
            return
        if side == "cloud" and cut.closed:
            self._cut = cut
            log.warning("a private answer is not finished in the cloud")
            return
        self._answer(cut, on=side)

    # -- answers

    def _answer(self, cut: Cut, on: str | None = None) -> None:
        """Begin an answer, or with `on` go on with one that has a text already."""
        options = cut.options or {"egress": self.egress}
        closed = cut.closed or options.get("private") is True or self.egress == "never" or self._hybrid.get_mode() == "local-only"
        cut = replace(cut, options=options, closed=closed)
        self._answering, self._shown = cut.id, cut.text
        self._journal.begin(cut.id, {"turns": self._turns, "egress": self.egress}, cut)
        self._open(cut, "streaming")
        self._view.op({"type": "busy", "value": True})
        self._task = asyncio.get_running_loop().create_task(self._run(cut, on))

    def _open(self, cut: Cut, state: str) -> None:
        """Draw an answer with the text it has."""
        op = {"type": "message", "id": cut.id, "role": "assistant", "text": cut.text, "state": state, "provider": cut.provider}
        self._view.op({**op, "segment": cut.segment})

    async def _run(self, cut: Cut, on: str | None) -> None:
        last: Chunk | None = None
        finish: dict[str, Any] = {"type": "finish", "id": cut.id, "state": "done"}
        options = {**cut.options, "request_id": cut.id, "journal": cut.id}
        try:
            known = bool(on and cut.text)  # then the first chunk is what is shown already
            async for chunk in self._stream(cut, options, on):
                last, known = chunk, self._take(cut, chunk, known=known)
        except Aborted as stop:
            usage = stop.usage.to_dict() if stop.usage else None
            finish |= {"state": "stopped", "stats": {"usage": usage} if usage and usage["total_tokens"] else None}
        except HybridError as error:
            finish |= {"state": "error", "error": error.to_dict()}
            self._fail(cut, error)
        self._end(cut, last, finish)

    def _stream(self, cut: Cut, options: dict[str, Any], on: str | None) -> ChunkStream:
        if on and cut.text:
            by: Provider = "cloud" if cut.provider == "cloud" else "local"
            return self._hybrid.resume(self.messages, cut.text, options, on, by=by)
        return self._hybrid.stream(self.messages, options)

    def _take(self, cut: Cut, chunk: Chunk, *, known: bool) -> bool:
        """Show one chunk, unless it is `known`. False: the next one is not."""
        if known:
            return False
        if self._answering == cut.id:
            self._shown = chunk.delta if chunk.restart else self._shown + chunk.delta
        if chunk.delta or chunk.restart:
            segment = max(chunk.segment, cut.segment + 1) if cut.text else chunk.segment
            self._view.delta(cut.id, chunk.delta, chunk.provider, segment, restart=chunk.restart)
        return False

    def _fail(self, cut: Cut, error: HybridError) -> None:
        """What there is of a failed answer can be gone on with, as if it had been cut off; not so a mistake of the caller's."""
        if self._answering == cut.id and self._shown and not isinstance(error, CallerError):
            self._cut = replace(cut, text=self._shown)

    def _end(self, cut: Cut, last: Chunk | None, finish: dict[str, Any]) -> None:
        if self._answering != cut.id:
            return  # a new conversation has begun meanwhile
        self._answering = ""
        if last is not None:
            finish["provider"] = last.provider
            if last.completion:
                finish |= {"model": last.completion.model, "stats": last.completion.to_dict()}
        elif cut.provider:
            finish["provider"] = cut.provider
        self._view.op(finish)
        if self._cut:
            self._cut = replace(self._cut, provider=finish.get("provider"))
            self._view.op({"type": "interrupted", "id": cut.id, "cloud": not cut.closed})
        else:
            self._journal.end(cut.id)
            self._turns.append({**finish, "role": "assistant", "text": self._shown})
        self._view.op({"type": "busy", "value": False})


def restored(chat: Chat, message: dict[str, Any]) -> None:
    """Take the shell's `restore`: a conversation carried over from the other document, or a record of the journal."""
    try:
        if record := message.get("record"):
            chat.restore(convert.snake(record["conversation"]), cut_from({**record, "id": message["id"]}))
        elif carried := message.get("conversation"):
            chat.restore(convert.snake(carried))
    except (KeyError, TypeError, AttributeError, CallerError):
        log.exception("what was kept of a conversation cannot be read")
