"""The conversation template, as WebLLM's conv_template, learnt from the checkpoint's own and proven to render the same.

`learn` renders the checkpoint's Jinja template over a few conversations of marked words and reads off what stands between the
marks: what opens and closes each turn, what a system turn looks like, and what the checkpoint says where there is none. Then
`check` renders sample conversations with both and compares the texts. Three differences may remain: the checkpoint's own system
turn, where the catalogue says so (`drop_default_system`); blanks around a message, which some templates strip and WebLLM
cannot; and a system message that moves on with each question (Mistral), which here stays in the first.

What ends an answer is what the checkpoint says, and the special token that its template writes behind one: the GGUFs of Phi-3,
Gemma and early Llama 3 only tell the token that ends a text, which those models do not write.

A template whose turns depend on more than their role has no such form and is refused by `check`, with both texts; but a system
message that opens the first question (Gemma 3, Llama 2) has one, and so has an answer that is asked for with more than it is told
with later (DeepSeek's and Qwen's thinking models open with `<think>`). A tool's turn is learnt where the template has one that
only frames what the tool said; where it refuses such turns, or writes them as JSON, a tool speaks in the person's turn.

A role's template is left out where it is the message alone: WebLLM fills one in with JavaScript's `replace`, which takes `$$` and
`$&` in a person's words for its own.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from .errors import SourceError

if TYPE_CHECKING:
    from .catalogue import Entry
    from .checkpoint import Vocabulary

Message = dict[str, str]

SAMPLES: tuple[tuple[Message, ...], ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "  spaces kept  "}),
    (
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "{user_message} {{ braces }} <b>"},
    ),
    (
        {"role": "system", "content": "Übersetze.\n"},
        {"role": "user", "content": "Hallo"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "日本"},
    ),
)


SYSTEM, ASKED, SAID, AGAIN = "mark1system", "mark2asked", "mark3said", "mark4again"
OTHERWISE = "a template of your own goes first: chat_template.jinja beside the weights, or gguf-new-metadata --chat-template-file"
"""What to do about a template that cannot be used."""


def conversation(vocabulary: Vocabulary, source: str, *, drop_system: bool = False) -> dict[str, Any]:
    """Return WebLLM's conv_template for a checkpoint's own template.

    Args:
        vocabulary: the checkpoint's tokens.
        source: its template, in Jinja.
        drop_system: leave out what it says where a conversation has no system message.

    Raises:
        SourceError: the template cannot be rendered, or shows no turns.

    """
    first, last = marks(vocabulary)
    asked, said = {"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}
    told = (asked, said, {"role": "user", "content": AGAIN})
    start, between, after, end = _cut(render_jinja(source, told, vocabulary), ASKED, SAID, AGAIN)
    closed = _opening_of(end, _cut(render_jinja(source, told, vocabulary, prompt=False), AGAIN)[1], last)
    answered = _opening_of(after, _cut(render_jinja(source, told[:2], vocabulary, prompt=False), SAID)[1], last)
    answer, opening = end.removeprefix(closed), after.removeprefix(answered)
    told_later = between.removeprefix(closed)
    header = min(answer, told_later, key=len)
    if not (
        opening and start.endswith(opening) and between.startswith(closed) and max(answer, told_later, key=len).startswith(header)
    ):
        raise SourceError(
            f"the chat template's turns cannot be told apart: {start!r}, {between!r}, {after!r}, {end!r}; {OTHERWISE}"
        )
    alone = start.removesuffix(opening)
    begins = bool(first) and alone.startswith(first)
    before, default, rest, joined = _system(source, vocabulary, opening, alone)
    tool, said_by_tool = _tool(source, vocabulary, answered, closed + answer) or (opening, "{tool_message}")
    frames = {"assistant": told_later.removeprefix(header) + "{assistant_message}", "tool": said_by_tool}
    ends = stops(vocabulary, answered)
    return {
        "name": "learnt",
        "system_template": f"{before.removeprefix(first) if begins else before}{{system_message}}{rest}",
        "system_message": "" if drop_system else default,
        # A system turn that is there even when it says nothing (Llama 3 tells the date in it).
        "render_empty_system_message": not drop_system and bool(rest) and alone == before + rest,
        "add_role_after_system_message": not joined,
        "roles": {"user": opening, "assistant": header, "tool": tool},
        "role_templates": {role: frame for role, frame in frames.items() if frame != f"{{{role}_message}}"},
        "messages": [],
        "seps": [closed, answered],
        "role_content_sep": "",
        "role_empty_sep": answer.removeprefix(header),
        "stop_str": [vocabulary.tokens[i] for i in ends],
        "stop_token_ids": ends,
        "function_string": "",
        "use_function_calling": False,
        **({"system_prefix_token_ids": [vocabulary.bos]} if begins else {}),
    }


def _tool(source: str, vocabulary: Vocabulary, answered: str, closes: str) -> tuple[str, str] | None:
    """Return what opens a tool's turn, and its message with what stands around it; None where the template has no such turn.

    `answered` ends the answer before it, `closes` is what follows it up to the next answer.
    """
    turns = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]
    said = '{"a": "b"}\n\u00fc'  # what JSON would write otherwise
    try:
        before, _, text = render_jinja(source, (*turns, {"role": "tool", "content": AGAIN}), vocabulary).rpartition(SAID)
        opened, rest = _cut(text, AGAIN)
        other = render_jinja(source, (*turns, {"role": "tool", "content": said}), vocabulary)
    except SourceError:
        return None
    frames = (
        opened.startswith(answered) and opened != answered and rest.endswith(closes) and "{tool_message}" not in opened + rest
    )
    if not frames or other != f"{before}{SAID}{opened}{said}{rest}":
        return None
    return opened.removeprefix(answered), "{tool_message}" + rest.removesuffix(closes)


def marks(vocabulary: Vocabulary) -> tuple[str, str]:
    """Return the texts of the tokens that open a text, empty where none does, and that end an answer."""
    return vocabulary.tokens[vocabulary.bos] if vocabulary.opens else "", vocabulary.tokens[vocabulary.eos]


def stops(vocabulary: Vocabulary, answered: str = "") -> list[int]:
    """Return the ids that end an answer, `answered` being what the template writes behind one."""
    told = list(vocabulary.stops or (vocabulary.eos,))
    marks = {vocabulary.tokens[i]: i for i in (*vocabulary.specials, *vocabulary.added) if vocabulary.tokens[i].strip()}
    ending = max((mark for mark in marks if answered.lstrip().startswith(mark)), key=len, default=None)
    return told if ending is None or marks[ending] in told else [*told, marks[ending]]


def _opening_of(text: str, closing: str, last: str) -> str:
    """Return the part of `closing` that `text` begins with: some templates end a finished conversation with the last token."""
    return closing if text.startswith(closing) else closing.removesuffix(last)


def _system(source: str, vocabulary: Vocabulary, opening: str, alone: str) -> tuple[str, str, str, bool]:
    """Return what opens a system turn, what it says by default and what closes it; `alone` is what stands there without one.

    The last says whether it stands inside the first question's turn, which it opens.
    """
    turns = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED})
    try:
        before, rest, _ = _cut(render_jinja(source, turns, vocabulary), SYSTEM, ASKED)
    except SourceError:  # the template refuses a system turn, or loses it: as plain text before the first question
        return alone, "", "\n\n", False
    joined = before.startswith(alone + opening) and not rest.endswith(opening)
    rest = rest.removesuffix(opening)
    inside = alone.startswith(before) and alone.endswith(rest) and len(alone) > len(before) + len(rest)
    return before, alone[len(before) : len(alone) - len(rest)] if inside else "", rest, joined


def _cut(text: str, *marks: str) -> list[str]:
    """Return what stands before, between and after the marks. Raises SourceError where one is not there once and in its turn."""
    found = []
    for mark in marks:
        before, there, text = text.partition(mark)
        if not there or mark in text:
            raise SourceError(
                f"the chat template does not show each message once and in order: {before + there + text!r}; {OTHERWISE}"
            )
        found.append(before)
    return [*found, text]


def render(template: dict[str, Any], messages: tuple[Message, ...], first: str = "") -> str:
    """Render a conversation up to the assistant's turn as WebLLM does from a conv_template.

    `first` is the text of the token that `system_prefix_token_ids` names; WebLLM puts the token itself there.
    """
    system, rest = template["system_message"], list(messages)
    if rest and rest[0]["role"] == "system":
        system = rest.pop(0)["content"]
    shown = system or template["render_empty_system_message"]
    parts = [first] if template.get("system_prefix_token_ids") else []
    parts += [template["system_template"].replace("{system_message}", system)] if shown else []
    for index, message in enumerate(rest):
        role, seps = message["role"], template["seps"]
        place = f"{{{role}_message}}"
        text = template["role_templates"].get(role, place).replace(place, message["content"], 1)
        opened = shown and index == 0 and not template["add_role_after_system_message"]
        prefix = "" if opened else template["roles"][role] + template["role_content_sep"]
        parts.append(prefix + text + seps[index % len(seps)])
    return "".join([*parts, template["roles"]["assistant"], template["role_empty_sep"]])


def render_jinja(source: str, messages: tuple[Message, ...], vocabulary: Vocabulary, *, prompt: bool = True) -> str:
    """Render a conversation with a checkpoint's own template, up to the assistant's turn if `prompt`.

    Raises SourceError where the template itself refuses, or is none.
    """
    import jinja2

    first, last = marks(vocabulary)
    try:
        made: str = (
            _environment()
            .from_string(source)
            .render(messages=list(messages), add_generation_prompt=prompt, bos_token=first, eos_token=last)
        )
    except Exception as error:  # somebody else's program: whatever it raises, it cannot be used
        reason = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise SourceError(f"the chat template cannot be rendered: {reason}; {OTHERWISE}") from error
    return made


@cache
def _environment() -> Any:
    """Return Jinja as transformers sets it up for chat templates (utils/chat_template_utils.py), without today's date."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    class Generation(Extension):
        """`{% generation %}` marks what the assistant said, for training; rendered, it is not there."""

        tags = {"generation"}  # noqa: RUF012 - so the base class has it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    found = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    found.globals["raise_exception"] = refuse
    found.filters["tojson"] = to_json
    return found


def strips(source: str, vocabulary: Vocabulary) -> bool:
    """Say whether a template takes the blanks around a message away."""
    blank = f"\t{ASKED}\t"  # no template writes a tab itself
    return blank not in render_jinja(source, ({"role": "user", "content": blank},), vocabulary)


def check(template: dict[str, Any], source: str, entry: Entry, vocabulary: Vocabulary) -> None:
    """Compare both templates over the samples.

    Raises SourceError with the first conversation that differs and both texts.
    """
    bare, moves = strips(source, vocabulary), _moves(source, vocabulary)
    for sample in SAMPLES:
        messages = tuple({**m, "content": m["content"].strip()} for m in sample) if bare else sample
        system = messages[0]["role"] == "system"
        if system and moves and len(messages) > 2:
            continue
        try:
            ours, theirs = render(template, messages, marks(vocabulary)[0]), render_jinja(source, messages, vocabulary)
        except SourceError:
            if system:  # refused by the checkpoint's template: there is nothing to compare with
                continue
            raise
        dropped = not system and entry.template.get("drop_default_system") and _is_default(theirs, ours, source, vocabulary)
        if ours != theirs and not dropped:
            raise SourceError(
                f"{entry.id}: on {messages} our conversation template gives {ours!r}, the checkpoint's {theirs!r}; {OTHERWISE}"
            )


def _moves(source: str, vocabulary: Vocabulary) -> bool:
    """Say whether a template puts the system message into the last question, whichever that is."""
    turns = [("system", SYSTEM), ("user", ASKED), ("assistant", SAID), ("user", AGAIN)]
    try:
        text = render_jinja(source, tuple({"role": role, "content": said} for role, said in turns), vocabulary)
        _cut(text, ASKED, SAID, SYSTEM, AGAIN)
    except SourceError:
        return False
    return True


def _is_default(theirs: str, ours: str, source: str, vocabulary: Vocabulary) -> bool:
    """Say whether all that the checkpoint renders besides is its own system turn."""
    try:
        said, first = conversation(vocabulary, source), marks(vocabulary)[0]
    except SourceError:
        return False
    system = said["system_template"].replace("{system_message}", said["system_message"])
    return bool(theirs.removeprefix(first) == system + ours.removeprefix(first))
