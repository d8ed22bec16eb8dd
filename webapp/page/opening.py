"""Which conversation is open: a new one, one of the shelf, or what another document or a crash left.

Reading the shelf takes a moment. What the person does meanwhile waits for it, and then happens in its order, in the conversation
that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.page.journal import cut_from
from hybr.webapp.state import library, schema
from hybr.webapp.state.library import ShelfError
from hybr.webapp.state.tree import Change, Node, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hybr.webapp.page.chat import Chat
    from hybr.webapp.page.journal import Cut

log = logging.getLogger(__name__)


class Opening:
    """See the module; the part of `Chat` that opens, restores and carries."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[], None]] = []

    def then(self, work: Callable[[], None]) -> None:
        """Do it now, or when what is being opened is open."""
        if self._task is None:
            work()
        else:
            self._waiting.append(work)

    def new(self, *, temporary: bool = False) -> None:
        """Open a new conversation."""
        self._chat.leave()
        self._chat.library.new(temporary=temporary)
        self._show()

    def open(self, event: dict[str, Any]) -> None:
        """`{id, node?, find?}`: open a conversation, show the branch through a message, and that."""
        if event.get("id") != self._chat.library.conversation.id:
            self._chat.leave()
        self._start(self._open(str(event.get("id")), event.get("node"), event.get("find")))

    async def _open(self, conversation: str, node: object, find: object) -> None:
        chat = self._chat
        if conversation != chat.library.conversation.id:
            await chat.library.open(conversation)
        at = node if isinstance(node, str) and node in chat.tree else None
        if at:
            chat.tree.select(at)
        self._show()
        if at:
            chat.drawing.reveal(at, find if isinstance(find, str) else None)

    def undo(self, token: str) -> None:
        """Take a removal back, wherever it was."""
        self._start(self._undo(token))

    async def _undo(self, token: str) -> None:
        if await self._chat.library.undo(token):
            self._chat.drawing.sync()
            self._chat.told()

    def heard(self, message: dict[str, Any]) -> None:
        """Another tab or the sidebar has changed a conversation (ShelfAnswer in static/js/protocol.js)."""
        chat = self._chat
        if message.get("conversation") != chat.library.conversation.id:
            return
        gone = message.get("change") == "removed"
        if gone:
            chat.library.forgotten()
        else:
            try:
                chat.library.heard(message["row"], message.get("nodes") or (), message.get("drop") or ())
            except (schema.NewerSchema, KeyError) as error:
                log.warning("what another tab has written is left alone: %s", error)
                return
        if (gone and message.get("by") == "page") or (chat.library.conversation.deleted_at and not chat.busy):
            self.new()
            return
        if not chat.busy:
            chat.tree.follow()
        chat.drawing.sync()
        chat.told()

    # -- what outlives a document

    def pack(self) -> dict[str, Any]:
        """The open conversation for another document. What is under way ends here, as far as it has come."""
        self._chat.leave()
        one, tree = self._chat.library.conversation, self._chat.tree
        rows = library.rows_of(one, Change(put=tuple(tree.nodes.values())), None)
        return {"conversation": rows["conversation"], "nodes": rows["nodes"], "temporary": one.temporary}

    def restore(self, message: dict[str, Any]) -> None:
        """The shell's `restore`: a conversation carried over, the one in the address bar, or a record of the journal."""
        self.then(lambda: self._readable(lambda: self._restore(message)))

    def _restore(self, message: dict[str, Any]) -> None:
        chat = self._chat
        if chat.busy or (len(chat.tree) and "record" not in message):
            return  # the person was quicker
        if "open" in message:
            self._start(self._open(str(message["open"]), None, None))
        elif "conversation" in message:
            self._carried(message["conversation"])
        else:
            self._recorded(message)

    def _carried(self, carried: dict[str, Any]) -> None:
        conversation, tree = library.read(carried["conversation"], carried["nodes"])
        conversation.temporary = carried.get("temporary") is True
        self._chat.library.adopt(conversation, tree, stored=False)
        self._show()

    def _recorded(self, message: dict[str, Any]) -> None:
        record = message["record"]
        conversation, tree = library.read(record["conversation"]["conversation"], record["conversation"]["nodes"])
        cut = cut_from({**record, "id": message["id"]})
        self._start(self._recover(conversation.id, (conversation, tree), cut))

    async def _recover(self, conversation: str, recorded: tuple[schema.Conversation, Tree], cut: Cut) -> None:
        """Open the conversation of an answer that was cut off, from the shelf or from what the journal has, and ask about it."""
        chat = self._chat
        if conversation != chat.library.conversation.id:
            if len(chat.tree):
                return  # the person was quicker
            try:
                await chat.library.open(conversation)
            except ShelfError as error:
                log.warning("the journal's conversation is not on the shelf: %s", error.message)
                chat.library.adopt(*recorded, stored=False)
        self._add(tuple(recorded[1].nodes.values()), cut)
        self._show()
        chat.offer(cut)

    def _add(self, asked: tuple[Node, ...], cut: Cut) -> None:
        """What the journal has and the shelf has not."""
        tree, chat = self._chat.tree, self._chat
        missing = [node for node in asked if node.id not in tree]
        tree.take(missing)
        segments = [{"provider": cut.provider, "atChars": 0}] * (cut.segment + 1 if cut.provider else 0)
        if cut.id in tree:
            node = tree.nodes[cut.id]
            node.text, node.provider, node.state = cut.text, cut.provider, "stopped"
            tree.select(node.id)
        else:
            parent = next((node.id for node in asked), None)
            node = Node(cut.id, parent, "assistant", cut.text, "stopped", provider=cut.provider, segments=segments)
            here = tree.leaf
            chat.library.add(node)
            if here is not None and here != parent:
                tree.select(here)  # the person has gone on meanwhile: it waits beside that
        node.closed = cut.closed
        chat.library.save(Change(put=(*missing, node)))

    # -- one thing at a time

    def _show(self) -> None:
        self._chat.drawing.open()
        self._chat.told()

    def _readable(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (KeyError, TypeError, AttributeError, ShelfError):
            log.exception("what was kept of a conversation cannot be read")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ShelfError as error:
            self._show()  # what is open stays open, in the address bar too
            self._chat.complain(error)
        finally:
            self._task = None
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self.then(one)
