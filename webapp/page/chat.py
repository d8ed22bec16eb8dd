"""The page's conversation: takes what a person does, keeps the tree (`state.library`), streams answers into the view.

One conversation is open at a time, and one answer under way. A request sends the branch that is shown, and no other. What was
shown is kept: a stopped or failed answer stays, and what there is of it goes along with the next turn, so that the model sees
what the person sees. Every change is written at once, so that a reload shows the same.

An answer that a reload or a crash cut off comes back as it was shown (`restore.py`), and waits for the person to say what becomes
of it: gone on with here, finished in the cloud, or kept as it is. Writing on without a word means the last.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.hybrid.gate import POLICIES
from hybr.webapp.page import request
from hybr.webapp.page.answer import Answer
from hybr.webapp.page.drawing import Drawing
from hybr.webapp.page.journal import Cut, Journal
from hybr.webapp.page.opening import Opening
from hybr.webapp.state import library
from hybr.webapp.state.library import Library, ShelfError
from hybr.webapp.state.tree import Change, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.provider import HybridLLMProvider
    from hybr.webapp.hybrid.types import Message
    from hybr.webapp.page.drawing import View
    from hybr.webapp.state.library import Shelf
    from hybr.webapp.state.tree import Tree

log = logging.getLogger(__name__)


class Chat:
    """See the module. `changed` is told whenever the open conversation, its name or its settings are others."""

    def __init__(
        self,
        hybrid: HybridLLMProvider,
        view: View,
        journal: Journal,
        shelf: Shelf,
        changed: Callable[[dict[str, Any]], object] = lambda _: None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._hybrid = hybrid
        self._view = view
        self._journal = journal
        self._changed = changed
        self.library = Library(shelf, lambda: now() * 1000, self.complain)
        self.drawing = Drawing(view, self.library)
        self.opening = Opening(self)
        self._answer: Answer | None = None
        self.cut: Cut | None = None
        self._events: dict[str, Callable[[dict[str, Any]], None]] = {
            "send": lambda event: self._send(str(event.get("text") or ""), attachments(event)),
            "edit": lambda event: self._edit(event, str(event.get("text") or "")),
            "regenerate": self._regenerate,
            "continue": self._continue,
            "branch": self._branch,
            "delete": self._delete,
            "undo": lambda event: self.opening.undo(str(event.get("token"))),
            "new-conversation": lambda event: self.opening.new(temporary=event.get("temporary") is True),
            "open-conversation": self.opening.open,
            "resume": lambda event: self._resume("cloud" if event.get("on") == "cloud" else "local"),
            "keep": lambda _: self.keep(),
        }

    # -- what is open

    @property
    def tree(self) -> Tree:
        """The open conversation's messages."""
        return self.library.tree

    @property
    def messages(self) -> list[Message]:
        """The branch shown, as the next request will send it."""
        return request.messages_of(self.tree.path, self.settings.get("system"))

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._answer is not None

    @property
    def facts(self) -> dict[str, Any]:
        """`{id, title, temporary, egress, persona, settings}` of the open conversation."""
        one = self.library.conversation
        mine = {"egress": self.egress, "persona": one.persona, "settings": self.settings}
        return {"id": one.id, "title": one.title, "temporary": one.temporary, **mine}

    def thought(self, detail: dict[str, Any]) -> None:
        """What the model that answers here thinks: shown beside its answer and kept with it, never sent to a model again."""
        if self._answer and self._answer.node.id == detail["request_id"]:
            extra = self._answer.node.extra
            extra["thought"] = str(extra.get("thought", "")) + detail["delta"]
            told = {"id": detail["request_id"], "delta": "", "thought": detail["delta"], "provider": detail["provider"]}
            self._view.op({"type": "delta", **told})

    def take(self, event: dict[str, Any]) -> None:
        """One event of the shell's controls (UiMessage in static/js/protocol.js)."""
        kind = str(event.get("event"))
        if kind == "stop":
            self.stop()
        elif kind in self._events:
            self.opening.then(lambda: self._events[kind](event))
        else:
            log.warning("unknown event of the shell: %r", kind)

    def stop(self) -> bool:
        """Stop the answer under way; True if there was one."""
        return self._answer is not None and self._answer.stop()

    def complain(self, error: ShelfError) -> None:
        """Tell the person what the shelf could not do."""
        self._view.op({"type": "toast", "toast": "error", "text": error.message})

    def told(self) -> None:
        """The open conversation is another, or has changed."""
        self._changed(self.facts)

    # -- what the person set for this conversation

    @property
    def egress(self) -> str:
        """What may leave the browser of it; the page's own policy may be stricter."""
        return self.library.conversation.egress or "allow"

    def set_egress(self, policy: object) -> bool:
        """Change that. False for what is no policy."""
        if policy not in POLICIES:
            log.warning("set_egress(%r): there are: %s", policy, ", ".join(POLICIES))
            return False
        return self._set("egress", str(policy))

    @property
    def persona(self) -> str | None:
        """The persona of this conversation's requests; None: the page's current one."""
        return self.library.conversation.persona

    def set_persona(self, name: str | None) -> bool:
        """Change that; whether there is one of that name is found out when it is asked."""
        return self._set("persona", name)

    @property
    def settings(self) -> dict[str, Any]:
        """Generation settings of this conversation: those of `request.SETTINGS` that are set."""
        return dict(self.library.conversation.settings)

    def set_settings(self, change: dict[str, Any]) -> dict[str, Any]:
        """Change some, None takes one away; returns all. Raises OptionError, and then changes nothing."""
        if not isinstance(change, dict):
            raise OptionError("the settings must be an object.", field="settings")
        settings = {**self.settings, **request.checked(change)}
        self._set("settings", {name: value for name, value in settings.items() if value is not None})
        return self.settings

    def _set(self, name: str, value: object) -> bool:
        setattr(self.library.conversation, name, value)
        self.library.save(None, name)
        self.told()
        return True

    # -- turns

    def _send(self, text: str, given: list[dict[str, Any]]) -> None:
        if (text.strip() or given) and not self._refused():
            self.keep()
            self._ask(self.tree.leaf, text, given)

    def _refused(self) -> bool:
        """One answer at a time."""
        if self.busy:
            self._view.op({"type": "toast", "toast": "info", "say": "busy"})
        return self.busy

    def _ask(self, parent: str | None, text: str, given: list[dict[str, Any]]) -> None:
        node = Node(f"user-{uuid.uuid4()}", parent, "user", text, attachments=given)
        self._add(node)
        self.reply(node.id)

    def _add(self, node: Node) -> None:
        self.library.add(node)
        self.library.save(Change(put=(node,)))
        self.drawing.sync()
        self.told()

    def reply(self, parent: str | None) -> None:
        """Answer the message `parent`, as a sibling of the answers that there are."""
        node = Node(f"answer-{uuid.uuid4()}", parent, "assistant", "", "streaming")  # `answer-`: static/js/sessions.js
        self.library.add(node)
        self._begin(node, Cut(node.id, ""))

    def _edit(self, event: dict[str, Any], text: str) -> None:
        """Another version of a message beside it: a person's is answered, an answer's is as the person wrote it."""
        node = self._node(event)
        if node is None or not (text.strip() or node.attachments) or self._refused():
            return
        self.keep()
        if node.role == "user":
            self._ask(self.tree.parent(node.id), text, node.attachments)
        else:
            edited = Node(str(uuid.uuid4()), self.tree.parent(node.id), node.role, text, extra={"edited": True})
            edited.provider, edited.model = node.provider, node.model
            self._add(edited)

    def _regenerate(self, event: dict[str, Any]) -> None:
        """Another answer beside this one, or in place of one that failed before its first word; to a message, an answer."""
        node = self._node(event)
        if node is None or node.role == "system" or self._refused():
            return
        self.keep()
        parent = node.id if node.role == "user" else self.tree.parent(node.id)
        if node.role == "assistant" and not node.text and not self.tree.children(node.id):
            self.library.save(self.tree.splice(node.id))
        self.reply(parent)

    def _continue(self, event: dict[str, Any]) -> None:
        """Go on with an answer that was stopped, cut, or ended by its length; one that has messages under it, in a copy."""
        node = self._node(event)
        if node is None or node.role != "assistant" or self._refused():
            return
        if self.cut and self.cut.id == node.id:
            self._resume(self._side(closed=self.cut.closed))
            return
        self.keep()
        if self.tree.children(node.id):
            node = replace(node, id=f"answer-{uuid.uuid4()}", segments=list(node.segments), extra={})
            self.library.add(node)
        self._begin(node, self.cut_of(node), self._side(closed=node.closed) if node.text else None)

    def _side(self, *, closed: bool) -> str:
        mode = self._hybrid.get_mode()
        if closed or mode == "local-only":
            return "local"
        return "local" if mode in {"local", "auto"} and self._hybrid.is_local_available() else "cloud"

    def _branch(self, event: dict[str, Any]) -> None:
        node = self._node(event)
        if node and self.tree.step(node.id, -1 if event.get("step") == -1 else 1):
            self._shown()

    def _delete(self, event: dict[str, Any]) -> None:
        node = self._node(event)
        if node is None:
            return
        branch = event.get("what") == "branch"
        gone = self.tree.below(node.id) if branch else [node.id]
        if self._answer and self._answer.node.id in gone:
            self.leave()
        if self.cut and self.cut.id in gone:
            self.keep()
        token = self.library.remove(self.tree.cut(node.id) if branch else self.tree.splice(node.id))
        say = "branchDeleted" if branch and len(gone) > 1 else "messageDeleted"
        self._shown(save=False)
        self._view.op({"type": "toast", "toast": "info", "say": say, "args": {"count": len(gone)}, "undo": token})

    def _shown(self, *, save: bool = True) -> None:
        """Another branch is shown."""
        if save:
            self.library.conversation.leaf = self.tree.leaf
            self.library.save(None, "leaf")
        self.drawing.sync()
        self._ask_about_cut()
        self.told()

    def _node(self, event: dict[str, Any]) -> Node | None:
        return self.tree.nodes.get(str(event.get("id")))

    # -- an answer that was cut off

    def cut_of(self, node: Node) -> Cut:
        """What is needed to go on with it."""
        return Cut(node.id, node.text, node.provider, max(len(node.segments) - 1, 0), {}, node.closed)

    def offer(self, cut: Cut) -> None:
        """Ask the person what becomes of it."""
        self.cut = cut
        self._ask_about_cut()

    def _ask_about_cut(self) -> None:
        if self.cut and any(node.id == self.cut.id for node in self.tree.path):
            self._view.op({"type": "interrupted", "id": self.cut.id, "cloud": not self.cut.closed})

    def keep(self) -> None:
        """The cut answer stays as it is."""
        cut, self.cut = self.cut, None
        if cut is None:
            return
        self._journal.end(cut.id)
        if node := self.tree.nodes.get(cut.id):
            node.state = "stopped"
            self.library.save(Change(put=(node,)))
            self.drawing.finish(node)

    def _resume(self, side: str) -> None:
        cut, self.cut = self.cut, None
        if cut is None or self.busy:
            return
        if side == "cloud" and cut.closed:
            self.cut = cut
            log.warning("a private answer is not finished in the cloud")
        elif node := self.tree.nodes.get(cut.id):
            self._begin(node, cut, side)

    # -- answers

    def _begin(self, node: Node, cut: Cut, on: str | None = None) -> None:
        """Begin an answer, or with `on` go on with one that has a text already."""
        one = self.library.conversation
        options = cut.options or request.options_of(one)
        closed = options.get("private") is True or self.egress == "never" or self._hybrid.get_mode() == "local-only"
        cut = replace(cut, options=options, closed=cut.closed or closed)
        node.closed, parent = cut.closed, self.tree.parent(node.id)
        self._answer = answer = Answer(self._hybrid, self._view, node, cut, on)
        kept = {}
        if not one.temporary:
            asked = Change(put=(self.tree.nodes[parent],)) if parent else Change()
            self._journal.begin(node.id, library.rows_of(one, asked, None), cut)
            kept = {"journal": node.id}
        branch = request.messages_of(self.tree.path_to(parent), self.settings.get("system"))
        answer.start(branch, {**options, "request_id": node.id, **kept}, self._ended)
        if node.id in self.drawing:
            self.drawing.message(node)
        else:
            self.drawing.sync()
        self._view.op({"type": "busy", "value": True})

    def _ended(self, answer: Answer) -> None:
        self._answer = None
        node = answer.node
        self.library.save(Change(put=(node,)))
        self.drawing.finish(node)
        if answer.unfinished:
            self.offer(replace(self.cut_of(node), options=answer.cut.options, closed=answer.cut.closed))
        else:
            self._journal.end(node.id)
        self.drawing.conversation()
        self._view.op({"type": "busy", "value": False})

    def leave(self) -> None:
        """What is under way ends here, as far as it has come; a cut answer stays as it is."""
        self.keep()
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.leave()
        self._journal.end(answer.node.id)
        if answer.node.id in self.tree:
            self.library.save(Change(put=(answer.node,)))
        self._view.op({"type": "busy", "value": False})


def attachments(event: dict[str, Any]) -> list[dict[str, Any]]:
    """What hangs on a message that is sent; what is none of them is left out."""
    given = event.get("attachments")
    return (
        [one for one in given if isinstance(one, dict) and one.get("kind") in ("image", "text")]
        if isinstance(given, list)
        else []
    )
