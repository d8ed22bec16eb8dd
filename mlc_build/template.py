"""The conversation template, as WebLLM's conv_template, and the proof that it renders what the checkpoint's own template renders.

ChatML is the one form so far. `check` renders sample conversations with both and compares the texts. What a checkpoint says when
there is no system turn is the one thing that may differ, and only if the catalogue says so (`drop_default_system`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import SourceError

if TYPE_CHECKING:
    from .catalogue import Entry
    from .checkpoint import Vocabulary

Message = dict[str, str]

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"

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


def conversation(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return WebLLM's conv_template for ChatML. Raises SourceError when the vocabulary lacks ChatML's marks."""
    for mark in (OPEN, CLOSE):
        if mark not in vocabulary.tokens:
            raise SourceError(f"the vocabulary has no {mark}; only ChatML conversations can be built so far")
    return {
        "name": "chatml",
        "system_template": f"{OPEN}system\n{{system_message}}{CLOSE}\n",
        "system_message": "",
        "render_empty_system_message": False,
        "add_role_after_system_message": True,
        "roles": {"user": f"{OPEN}user", "assistant": f"{OPEN}assistant", "tool": f"{OPEN}tool"},
        "role_templates": {"user": "{user_message}", "assistant": "{assistant_message}", "tool": "{tool_message}"},
        "messages": [],
        "seps": [f"{CLOSE}\n"],
        "role_content_sep": "\n",
        "role_empty_sep": "\n",
        "stop_str": [CLOSE],
        "stop_token_ids": [vocabulary.eos],
        "function_string": "",
        "use_function_calling": False,
    }


def render(template: dict[str, Any], messages: tuple[Message, ...]) -> str:
    """Render a conversation up to the assistant's turn as WebLLM does from a conv_template."""
    system, rest = template["system_message"], list(messages)
    if rest and rest[0]["role"] == "system":
        system = rest.pop(0)["content"]
    shown = system or template["render_empty_system_message"]
    parts = [template["system_template"].replace("{system_message}", system)] if shown else []
    for index, message in enumerate(rest):
        role, seps = message["role"], template["seps"]
        text = template["role_templates"][role].replace(f"{{{role}_message}}", message["content"], 1)
        parts.append(template["roles"][role] + template["role_content_sep"] + text + seps[index % len(seps)])
    return "".join([*parts, template["roles"]["assistant"], template["role_empty_sep"]])


def render_jinja(source: str, messages: tuple[Message, ...]) -> str:
    """Render a conversation with a checkpoint's own template, up to the assistant's turn."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(messages=list(messages), add_generation_prompt=True)


def check(template: dict[str, Any], source: str, entry: Entry) -> None:
    """Compare both templates over the samples.

    Raises SourceError with the first conversation that differs and both texts.
    """
    for messages in SAMPLES:
        ours, theirs = render(template, messages), render_jinja(source, messages)
        if ours == theirs:
            continue
        prefix = theirs.removesuffix(ours) if theirs.endswith(ours) else ""
        system = prefix.startswith(f"{OPEN}system\n") and prefix.count(OPEN) == 1 and messages[0]["role"] != "system"
        if not (system and entry.template.get("drop_default_system")):
            raise SourceError(f"{entry.id}: on {messages} our conversation template gives {ours!r}, the checkpoint's {theirs!r}")
