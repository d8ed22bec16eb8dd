"""The conversation template against Jinja's rendering of the checkpoint's own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import Any

import pytest

from hybr.mlc_build import catalogue, checkpoint, template
from hybr.mlc_build.errors import SourceError
from hybr.server import paths

WITH_DEFAULT = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VOCABULARY = checkpoint.open_seeded().vocabulary
ENTRY = catalogue.find("tiny")
DROPPING = dataclasses.replace(ENTRY, template={"drop_default_system": True})


BARE = dataclasses.replace(
    VOCABULARY,
    tokens=["<s>" if i == 1 else "</s>" if i == 2 else token for i, token in enumerate(VOCABULARY.tokens)],
    opens=True,
)
QWEN = WITH_DEFAULT.replace("You are a helpful AI assistant", "You are Qwen.")
LLAMA3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n" }}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA_TURNS = """
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
    {{- (prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set turns = messages %}{% set prefix = '' %}" + GEMMA_TURNS
)
GEMMA3 = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set prefix = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}"
    "{%- else -%}{%- set prefix = '' -%}{%- set turns = messages -%}{%- endif -%}" + GEMMA_TURNS
)
QWEN3 = """
{%- set ns = namespace(last=messages|length - 1, looking=true) %}
{%- for message in messages[::-1] %}
    {%- if ns.looking and message.role == 'user' %}
        {%- set ns.looking = false %}{%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- else %}
        {%- set late = message.role == 'assistant' and loop.index0 > ns.last and loop.last %}
        {%- set thought = '<think>\n\n</think>\n\n' if late else '' %}
        {{- '<|im_start|>' + message.role + '\n' + thought + message.content }}
        {%- if message.tool_calls %}{{- message.tool_calls | tojson }}{%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""
LLAMA32 = LLAMA3.replace(
    'December 2023\n\n" }}',
    "December 2023\nToday Date: \" + (strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024') + \"\n\n\" }}",
).replace(
    "{%- for message in messages %}\n    {{-",
    """{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" + message.content | tojson + "<|eot_id|>" }}{% continue %}
    {%- endif %}
    {{-""",
)
TRAINED = checkpoint.CHATML.replace(
    "message['content'] + '<|im_end|>' + '\\n' }}",
    "'' }}{% generation %}{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>\\n' }}",
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
LLAMA2 = (
    "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in (messages[1:] if system else messages) %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + ((system if loop.first else '') + m.content).strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% set said = messages[0].content if messages[0].role == 'system' else 'A curious user asks.' %}{{ said }}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ ' USER: ' + m.content.strip() }}"
    "{% elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content.strip() + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
TWICE = (  # a system turn that looks like a question, and is none
    "{% for m in messages %}{{ ('[A]' if m.role == 'assistant' else '[U]') + m.content + '[/]' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[A]' }}{% endif %}"
)
FAMILIES = {
    "twice": TWICE,
    "deepseek": DEEPSEEK,
    "llama2": LLAMA2,
    "vicuna": VICUNA,
    "qwen3": QWEN3,
    "llama3.2": LLAMA32,
    "trained": TRAINED,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "chatml": checkpoint.CHATML,
    "qwen": QWEN,
    "llama3": LLAMA3,
    "phi3": PHI3,
    "zephyr": ZEPHYR,
    "mistral": MISTRAL,
}


def test_text() -> None:
    """A question alone becomes one turn and an open answer: no system turn appears from nowhere."""
    made = template.conversation(VOCABULARY, checkpoint.CHATML)
    text = template.render(made, ({"role": "user", "content": "Hi"},))
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("name", FAMILIES)
def test_learnt_templates_render_the_same(name: str) -> None:
    """Over all samples, what was learnt from a family's template renders what it renders."""
    made = template.conversation(BARE, FAMILIES[name])
    template.check(made, FAMILIES[name], ENTRY, BARE)
    assert made["stop_token_ids"] == [2]
    assert ("system_prefix_token_ids" in made) == (name in {"llama3", "llama3.2", "mistral", "gemma2", "gemma3", "deepseek"})
    assert made["add_role_after_system_message"] == (name not in {"gemma3", "llama2"})  # where it opens the first question
    assert made["role_empty_sep"] == ("<think>\n" if name == "deepseek" else "")


WEBLLM = """
const source = require('fs').readFileSync(process.argv[1], 'utf8');
const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const cut = (from, to) => source.slice(source.indexOf(from), source.indexOf(to, source.indexOf(from)) + to.length);
const names = ['Role', 'MessagePlaceholders'].map((name) => cut(`var ${name};`, `(${name} = {}));`)).join('');
const Conversation = new Function(`${names}${cut('\\nclass Conversation {', '\\n}\\n')}return Conversation`)();
const texts = asked.map(([template, messages]) => {
  const made = new Conversation(template);
  for (const {role, content} of messages)
    // static/js/engine/chat.js doubles a system message's dollars.
    if (role === 'system') made.override_system_message = content.replaceAll('$', '$$$$');
    else made.appendMessage(role, content);
  made.appendReplyHeader('assistant');
  return made.getPromptArray().join('');
});
process.stdout.write(JSON.stringify(texts));
"""
"""WebLLM's own Conversation, cut out of what the page loads."""
DOLLARS = "cost $$5, $& or `$`, it's $'$1 {function_string}"


def webllm(*asked: tuple[dict[str, Any], tuple[template.Message, ...]]) -> list[str]:
    """Return what WebLLM makes of conversations, each with its template, but for the token that opens a text."""
    bundle = paths.package("static") / "node_modules/@mlc-ai/web-llm/lib/index.js"
    run = subprocess.run(["node", "-e", WEBLLM, bundle], input=json.dumps(asked), capture_output=True, text=True, check=True)
    return list(json.loads(run.stdout))


@pytest.mark.parametrize("name", FAMILIES)
def test_webllm_renders_the_same(name: str) -> None:
    """What is compared with the checkpoint's template is what WebLLM's own code makes of ours, dollars and braces included."""
    made = template.conversation(BARE, FAMILIES[name])
    person = ({"role": "system", "content": DOLLARS}, {"role": "user", "content": DOLLARS})
    samples = (*template.SAMPLES, *(TURNS[:turns] for turns in (3, 5)), person, person[1:])
    found = webllm(*((made, sample) for sample in samples))
    assert found == [template.render(made, sample) for sample in samples]
    assert found[-1].count(DOLLARS) == 1


TURNS = (
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": "<call/>"},
    {"role": "tool", "content": '{"sky": "grün"}\nand "more"'},
    {"role": "assistant", "content": "Green."},
    {"role": "user", "content": "Why?"},
)


@pytest.mark.parametrize("name", ["chatml", "qwen", "qwen3", "phi3", "zephyr", "trained"])
@pytest.mark.parametrize("system", [(), ({"role": "system", "content": "Be brief."},)])
@pytest.mark.parametrize("turns", [3, 5])
def test_a_tools_turn_renders_the_same(name: str, system: tuple[template.Message, ...], turns: int) -> None:
    """Where a template frames what a tool said, WebLLM's rendering is the checkpoint's, with and without a system turn."""
    made = template.conversation(BARE, FAMILIES[name])
    told = (*system, *TURNS[:turns])
    assert template.render(made, told) == template.render_jinja(FAMILIES[name], told, BARE)


@pytest.mark.parametrize("name", ["llama3.2", "mistral", "gemma2", "gemma3"])
def test_a_tool_without_a_turn_of_its_own(name: str) -> None:
    """Where a template refuses a tool's turn, or writes it as JSON, the tool speaks in the person's turn, in its own words."""
    made = template.conversation(BARE, FAMILIES[name])
    assert made["roles"]["tool"] == made["roles"]["user"]
    assert "tool" not in made["role_templates"]


def test_no_date_gets_into_a_build() -> None:
    """A template that tells today's date where it can be asked tells its fixed one: tomorrow's build has the same bytes."""
    assert "Today Date: 26 Jul 2024" in template.conversation(BARE, LLAMA32)["system_template"]


def test_default_system_message_is_learnt() -> None:
    """What Qwen says where there is no system message becomes ours; what Llama 3 frames it with stays when it is empty."""
    assert template.conversation(BARE, QWEN)["system_message"] == "You are Qwen."
    llama = template.conversation(BARE, LLAMA3)
    assert llama["render_empty_system_message"] is True
    assert llama["system_template"].endswith("December 2023\n\n{system_message}<|eot_id|>")


def test_default_system_turn_is_dropped_at_the_catalogues_word() -> None:
    """With the catalogue's word the conversation has no system turn of its own; without it, leaving it out is an error."""
    dropped = template.conversation(VOCABULARY, WITH_DEFAULT, drop_system=True)
    assert dropped["system_message"] == ""
    template.check(dropped, WITH_DEFAULT, DROPPING, VOCABULARY)
    with pytest.raises(SourceError, match=r"tiny: on .*You are a helpful"):
        template.check(dropped, WITH_DEFAULT, ENTRY, VOCABULARY)


@pytest.mark.parametrize(
    "other",
    [
        checkpoint.CHATML.replace("<|im_end|>", "<|end|>"),
        checkpoint.CHATML.replace("'\\n' + message['content']", "message['content']"),
        checkpoint.CHATML + "<think>",
    ],
    ids=["mark", "newline", "suffix"],
)
def test_differences_are_found(other: str) -> None:
    """A template that differs by a mark, a newline or a suffix is refused, even where a system turn may go."""
    with pytest.raises(SourceError, match="our conversation template gives"):
        template.check(template.conversation(VOCABULARY, checkpoint.CHATML), other, DROPPING, VOCABULARY)


def test_blanks_around_a_message_may_be_stripped() -> None:
    """WebLLM cannot strip them, so a template that does is compared without; everything else must still be equal."""
    stripping = checkpoint.CHATML.replace("message['content']", "message['content'] | trim")
    template.check(template.conversation(VOCABULARY, stripping), stripping, ENTRY, VOCABULARY)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("[INST]{{ messages[0]['content'] }}[/INST]", "does not show each message once"),
        ("{% for message in messages %}{{ message['content'] }}{% endfor %}", "cannot be told apart"),
        ("{% for message in messages %}", "cannot be rendered"),
        ("{{ raise_exception('no') }}", "cannot be rendered: no"),
        ("{{ 1 // 0 }}", "cannot be rendered: ZeroDivisionError"),
        ("{{ messages[0]['content'] + 1 }}", "cannot be rendered: TypeError"),
        ("{{ ''.__class__.__mro__ }}", "cannot be rendered: access to attribute"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "cannot be rendered: OverflowError"),
        ("{% generation %}", "cannot be rendered: Unexpected end of template"),
        ("{{ strftime_now('%d') }}", "'strftime_now' is undefined"),
    ],
    ids=["first only", "no turns", "broken", "refuses", "divides", "adds", "escapes", "loops", "unclosed", "date"],
)
def test_templates_that_cannot_be_learnt(source: str, words: str) -> None:
    """A template without turns that can be told apart is refused in words that say why."""
    with pytest.raises(SourceError, match=f"{words}.*chat_template.jinja beside the weights, or gguf-new-metadata"):
        template.conversation(VOCABULARY, source)


def test_what_a_template_writes_behind_an_answer_ends_it() -> None:
    """A GGUF of Phi-3 tells the token that ends a text; the one that ends an answer is in its template."""
    phi = dataclasses.replace(VOCABULARY, tokens=["<|end|>" if i == 3 else token for i, token in enumerate(VOCABULARY.tokens)])
    found = template.conversation(phi, PHI3)
    assert (found["stop_token_ids"], found["stop_str"]) == ([2, 3], ["<|im_end|>", "<|end|>"])
    assert template.conversation(VOCABULARY, checkpoint.CHATML)["stop_token_ids"] == [2]


MOVING = """{%- set system = messages[0].content if messages[0].role == 'system' else none %}
{{- bos_token }}
{%- for message in (messages[1:] if system is not none else messages) %}
    {%- if message.role == 'user' %}
        {{- '[INST]' + (system + '\\n\\n' if loop.last and system is not none else '') + message.content + '[/INST]' }}
    {%- else %}{{- message.content + eos_token }}{%- endif %}
{%- endfor %}"""


def test_a_system_message_that_moves_stays_in_the_first_question() -> None:
    """Mistral's newer templates put it into the last question; a page cannot take back what the cache holds."""
    found = template.conversation(BARE, MOVING)
    template.check(found, MOVING, ENTRY, BARE)
    assert (found["system_template"], found["add_role_after_system_message"]) == ("[INST]{system_message}\n\n", False)
