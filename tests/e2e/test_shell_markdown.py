"""What a model writes becomes DOM that is safe, and the same DOM however it was cut into deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hybr_testing import until
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shell_testing import op, shell_page, shell_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

PIECES = [
    "# Title", "para", " *em* and **strong** `code`", "\n", "\n\n", "- item", "- [ ] task", "  nested", "1. one", "> quote",
    "```py\n", "```", "```\n", "\n\n\n",
    "x  \n", "    indented", "| a | b |", "|---|--:|", "---", "===", "[link](https://a.example)", "[ref]",
    "[ref]: https://b.example", "<b>html</b>", "-", "=", "|", " ", "#", ">", "`", "*", "1.", "   ", "\r\n", "\t", "***", "~~~",
    "$x$", "$$\ny\n", "$$", "\\[", "\\]", "![i](x)", "\\", "<", "&amp;", "é", "😀",
    "a<br>b", "H<sub>2</sub>", "<kbd>", "  ```py\n  x\n  ```\n", "مرحبا",
]  # fmt: skip


@pytest.fixture(scope="module")
def page(chromium_without_webgpu: Browser) -> Iterator[Page]:
    """One shell for the whole file, with the markdown module at hand."""
    with shell_server() as origin, shell_page(chromium_without_webgpu, origin) as (page, _):
        page.evaluate(
            """async () => {
                 const {MarkdownStream, renderMarkdown} = await import(document.querySelector('meta[name=assets]').content
                   + '/js/markdown.js');
                 window.whole = (text) => {
                   const root = document.createElement('div');
                   renderMarkdown(root, text);
                   return root;
                 };
                 window.cut = (pieces, drawEach = true) => {
                   const root = document.createElement('div');
                   const stream = new MarkdownStream(root);
                   for (const piece of pieces) { stream.append(piece); if (drawEach) stream.render(); }
                   window.before = root.innerHTML;
                   stream.finish();
                   return root;
                 };
               }"""
        )
        yield page


def test_html_is_shown_as_text(page: Page) -> None:
    """A reader sees the tags that the model wrote."""
    text: str = page.evaluate("whole('Use <b>bold</b>.\\n\\n<div>block</div>').textContent")
    assert "<b>bold</b>" in text
    assert "<div>block</div>" in text


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("**a** *b* ~~c~~ `d`", "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d</code></p>"),
        ("one\ntwo", "<p>one<br>two</p>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("3. a", '<ol start="3">\n<li>a</li>\n</ol>'),
        (
            "[a](https://a.example)",
            '<p><a href="https://a.example" target="_blank" rel="noopener noreferrer nofollow">a</a></p>',
        ),
        ("- [x] done", "<ul>\n<li>☑ done</li>\n</ul>"),
        ("a < b & c", "<p>a &lt; b &amp; c</p>"),
    ],
)
def test_ordinary_markdown(page: Page, source: str, html: str) -> None:
    """The usual marks become the usual elements."""
    assert page.evaluate("(source) => whole(source).firstChild.innerHTML.trim()", source) == html


def test_a_table_keeps_its_alignment(page: Page) -> None:
    """Columns are aligned as the model said, and a wide table scrolls by itself."""
    page.evaluate("window.table = whole('| a | b |\\n|---|--:|\\n| 1 | 2 |')")
    assert page.evaluate("[...table.querySelectorAll('td')].map((cell) => cell.align)") == ["", "right"]
    assert page.evaluate("table.querySelector('table').parentElement.tabIndex") == 0


def test_code_has_its_language_and_a_copy_button(page: Page) -> None:
    """A fenced block says what it is, keeps its text exactly and can be copied and scrolled by keyboard."""
    page.evaluate("window.code = whole('```python\\na = \"<b>\"\\n```')")
    assert page.evaluate("code.querySelector('.code-bar span').textContent") == "python"
    assert page.evaluate("code.querySelector('pre').textContent") == 'a = "<b>"'
    assert page.evaluate("code.querySelector('button').textContent") == "Copy"
    assert page.evaluate("code.querySelector('pre').tabIndex") == 0


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=24))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_equals_whole(page: Page, pieces: list[str]) -> None:
    """However a text is cut, the DOM at the end is that of the whole text."""
    same = "(pieces) => [cut(pieces).innerHTML, whole(pieces.join('')).innerHTML]"
    streamed, whole = page.evaluate(same, pieces)
    assert streamed == whole


@given(pieces=st.lists(st.sampled_from([p for p in PIECES if "ref" not in p]), max_size=24))
@example(pieces=[">", "para", "```py\n", "*", "# Title"])  # a lone bullet looks like a list until its line goes on
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_frozen_was_final(page: Page, pieces: list[str]) -> None:
    """Without links defined after use, the DOM before the end is already that of the whole: no block was frozen too early."""
    text = "".join(pieces)
    streamed, whole = page.evaluate("(text) => { cut(text.split('')); return [before, whole(text).innerHTML]; }", text)
    assert streamed == whole


def test_blocks_that_are_done_are_not_touched_again(page: Page) -> None:
    """Text a reader may have selected stays the same node while more is written below it."""
    kept = page.evaluate(
        """() => {
             const root = document.createElement('div');
             const first = () => root.firstChild.firstChild;
             window.lines = Array.from({length: 50}, (_, i) => `Paragraph ${i} with **bold** text.\\n\\n`);
             return import(document.querySelector('meta[name=assets]').content + '/js/markdown.js').then(({MarkdownStream}) => {
               const stream = new MarkdownStream(root);
               stream.append(lines[0]); stream.render();
               const node = first();
               for (const line of lines.slice(1)) { stream.append(line); stream.render(); }
               stream.finish();
               return node === first() && root.querySelectorAll('.block').length === 50;
             });
           }"""
    )
    assert kept


def test_growing_code_appends_to_its_node(page: Page) -> None:
    """A code block that is being written keeps its text node, so that a selection in it survives."""
    kept = page.evaluate(
        """async () => {
             const {MarkdownStream} = await import(document.querySelector('meta[name=assets]').content + '/js/markdown.js');
             const root = document.createElement('div');
             const stream = new MarkdownStream(root);
             stream.append('```js\\nconst a = 1;'); stream.render();
             const node = root.querySelector('code').firstChild;
             for (let i = 0; i < 20; i += 1) { stream.append(`\\nlet b${i};`); stream.render(); }
             stream.append('\\n```\\n'); stream.render(); stream.finish();
             return node === root.querySelector('code').firstChild && node.data.endsWith('let b19;');
           }"""
    )
    assert kept


def test_a_selection_survives_while_its_paragraph_is_written(page: Page) -> None:
    """Words that a reader has selected in the very block that grows, in a sentence, a list and a table, stay selected."""
    kept = page.evaluate(
        """async () => {
             const {MarkdownStream} = await import(document.querySelector('meta[name=assets]').content + '/js/markdown.js');
             const kept = [];
             for (const text of ['Some **chosen** words ', '- one chosen\\n- two ', '| a | b |\\n|---|---|\\n| chosen | x']) {
               const root = document.createElement('div');
               document.body.append(root);
               const stream = new MarkdownStream(root);
               stream.append(text); stream.render();
               const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
               while (!walker.nextNode().data.includes('chosen'));
               const at = walker.currentNode.data.indexOf('chosen');
               getSelection().setBaseAndExtent(walker.currentNode, at, walker.currentNode, at + 6);
               for (const more of ['and', ' *m', 'ore* and', ' `co', 'de`']) { stream.append(more); stream.render(); }
               stream.finish();
               kept.push(String(getSelection()));
               root.remove();
             }
             return kept;
           }"""
    )
    assert kept == ["chosen"] * 3


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("a<br>b<br/>c", "<p>a<br>b<br>c</p>"),
        ("H<sub>2</sub>O and x<sup>2</sup>, <KBD>Tab</KBD>", "<p>H<sub>2</sub>O and x<sup>2</sup>, <kbd>Tab</kbd></p>"),
        ("<sub>never closed", "<p><sub>never closed</sub></p>"),
        ("<br onclick=x> <sub class=x>", "<p>&lt;br onclick=x&gt; &lt;sub class=x&gt;</p>"),
    ],
)
def test_tags_that_models_write_for_want_of_others(page: Page, source: str, html: str) -> None:
    """A line break in a cell, a raised and a lowered letter and a key are what they are; with anything more they are text."""
    assert page.evaluate("(source) => whole(source).firstChild.innerHTML.trim()", source) == html


def test_lists_and_tables_stand_on_the_side_of_their_script(page: Page) -> None:
    """An Arabic list and table begin at the right, an English one beside them at the left, code always at the left."""
    body(page, "- قائمة\n- item\n\n> quote مع\n\n| عمود | b |\n|---|---|\n| 1 | 2 |\n\nمرحبا `code`.\n\nHello.")  # noqa: RUF001 - Arabic
    shown = page.evaluate(
        """() => [...document.querySelectorAll('[data-id=a] :is(ul, blockquote, .table-box, code)')].map((one) =>
             getComputedStyle(one).direction)"""
    )
    assert shown == ["rtl", "ltr", "rtl", "ltr"]
    sides = page.evaluate(
        """() => [...document.querySelectorAll('[data-id=a] .block > p')].map((p) => {
             const range = document.createRange(); range.selectNodeContents(p);
             const [text, box] = [range.getBoundingClientRect(), p.getBoundingClientRect()];
             return text.left - box.left > box.right - text.right ? 'right' : 'left'; })"""
    )
    assert sides == ["right", "left"]


def body(page: Page, text: str, state: str = "done") -> None:
    """Show one reply in place of all."""
    op(page, {"type": "clear"}, {"type": "message", "id": "a", "role": "assistant", "text": text, "state": state})


def count(page: Page, selector: str) -> int:
    """How many elements of the reply there are."""
    return page.locator(f"[data-id=a] {selector}").count()


@pytest.mark.parametrize(
    ("source", "formulas"),
    [
        ("The area is $\\pi r^2$.", 1),
        ("$$\na\n- b\n= c\n$$", 1),
        ("\\(x\\) and \\[y\\]", 2),
        ("\\[\nx + 1\n\\]", 1),
        ("so $x$, $y$ and $2 \\times 3$", 3),
        ("It costs $5 and $6 more.", 0),
        ("between $10 and 20$ each, US$5/US$6, $HOME/$USER", 0),
        ("`$x$`", 0),
        ("```\n$x$\n```", 0),
        ("$a\n\nb$", 0),
        ("\\$x$", 0),
    ],
)
def test_formulas_are_found_and_prices_are_none(page: Page, source: str, formulas: int) -> None:
    """What is a formula is set by KaTeX, readable for assistive technology too; money and variables stay text."""
    body(page, source.replace("\\n", "\n"))
    until(lambda: count(page, ".formula math") == formulas and count(page, "code.math-inline") == 0, timeout=10, what="formulas")
    assert count(page, ".formula") == formulas


def test_what_katex_cannot_set_stays_source(page: Page) -> None:
    """A command that does not exist and one without end are shown as written; one that would load something loads nothing."""
    body(page, "$\\nosuchcommand{x}$ and $\\includegraphics{/v1/models}$ and $\\def\\a{\\a\\a}\\a$ then $x$")
    until(lambda: count(page, ".formula") == 2, timeout=10, what="those that are TeX")
    assert count(page, "code.math-inline") == 2
    assert count(page, "img") == 0


def test_a_formula_under_way_is_not_torn_apart(page: Page) -> None:
    """Lines that would be a list or a heading elsewhere stay in the block that `$$` has opened."""
    for text in ("$$\na\n- b\n", "$$\na\n- b\n# c\n"):
        assert page.evaluate("(text) => { cut(text.split('')); return before; }", text).count("<li") == 0


def test_code_is_coloured_when_it_is_done(page: Page) -> None:
    """A block that is closed gets its language's colours, its text is unchanged; an unknown language stays plain."""
    source = "```python\ndef f(x):\n    return '<b>'\n```"
    body(page, source + "\n\n```nosuchlang\ndef f(x): 1\n```")
    until(lambda: count(page, "code.language-python .hljs-keyword") >= 2, timeout=10, what="colours")
    assert page.locator("[data-id=a] code").first.text_content() == "def f(x):\n    return '<b>'"
    assert count(page, "code.language-nosuchlang span") == 0


def test_code_inside_a_list_is_a_code_block_too(page: Page) -> None:
    """The usual shape of instructions: each step's code has its language, its colours and a button that copies it alone."""
    body(page, "1. First:\n   ```python\n   def f(): 1\n   ```\n2. Then:\n   > ```\n   > plain\n   > ```")
    until(lambda: count(page, "li .code .hljs-keyword") == 1, timeout=10, what="colours")
    assert page.locator("[data-id=a] li .code-bar span").all_inner_texts() == ["python", "text"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-id=a] .copy-code").last.click()
    until(lambda: page.evaluate("navigator.clipboard.readText()") == "plain", timeout=5, what="the copy")


def test_code_that_is_written_is_coloured_when_the_text_goes_on(page: Page) -> None:
    """While its last line may still grow it is plain; when other blocks stand below it, it is coloured before the reply's end."""
    body(page, "", "streaming")
    delta = {"type": "delta", "id": "a", "provider": "local", "segment": 0}
    op(page, {**delta, "delta": "```js\nconst a = 1;\n```\n\nText.\n\nMore"})
    until(lambda: count(page, ".hljs-keyword") == 1, timeout=10, what="colours")
    op(page, {**delta, "delta": " text."}, {"type": "finish", "id": "a", "state": "done", "provider": "local", "stats": {}})
    until(lambda: "More text." in page.locator("[data-id=a]").inner_text(), timeout=5, what="the end")
    assert count(page, ".hljs-keyword") == 1


def test_the_copy_button_copies_the_code_alone(page: Page) -> None:
    """Colours or not, what is copied is what the model wrote."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    body(page, "```python\nprint('x')\n```")
    page.locator("[data-id=a] .copy-code").click()
    until(lambda: page.evaluate("navigator.clipboard.readText()") == "print('x')", timeout=5, what="copied")
    assert page.locator("[data-id=a] .copy-code").inner_text() == "Copied"


@pytest.mark.parametrize("cut", ["whole", "letters"])
@pytest.mark.parametrize(
    ("source", "thought", "said"),
    [
        ("<think>\nLet **me** see\n</think>\n\nIt is 4.", "Let me see", "It is 4."),
        ("I wonder.\n</think>\nIt is 4.", "I wonder.", "It is 4."),
        ("<thinking>a < b</thinking>Yes", "a < b", "Yes"),
        ("<think>never ends", "never ends", ""),
        ("No <think>thought</think> here", "", "No <think>thought</think> here"),
        ("`</think>` is a tag", "", "</think> is a tag"),
        ("<thin ice", "", "<thin ice"),
    ],
)
def test_what_was_thought_is_folded(page: Page, source: str, thought: str, said: str, cut: str) -> None:
    """A model's thoughts stand in a fold before its answer, as Markdown, however the text is cut."""
    body(page, source if cut == "whole" else "", "done" if cut == "whole" else "streaming")
    if cut == "letters":
        op(page, *({"type": "delta", "id": "a", "delta": one, "provider": "local", "segment": 0} for one in source))
        op(page, {"type": "finish", "id": "a", "state": "done", "provider": "local", "stats": {}})
    assert page.locator("[data-id=a] .body").inner_text() == said
    assert count(page, ".reasoning") == (1 if thought else 0)
    if thought:
        page.locator("[data-id=a] .reasoning summary").click()
        until(lambda: page.locator("[data-id=a] .thought").inner_text() == thought, timeout=5, what="the thought")


def test_thoughts_that_a_provider_tells_beside_the_text_stream_too(page: Page) -> None:
    """They are folded, drawn while the fold is open, and the fold says when they have ended."""
    body(page, "", "streaming")
    delta = {"type": "delta", "id": "a", "provider": "cloud", "segment": 0}
    op(page, {**delta, "delta": "", "thought": "First, "})
    page.locator("[data-id=a] .reasoning summary").click()
    op(page, {**delta, "delta": "", "thought": "then."})
    until(lambda: page.locator("[data-id=a] .thought").inner_text() == "First, then.", timeout=5, what="the thought")
    assert page.locator("[data-id=a] .reasoning").get_attribute("data-state") == "thinking"
    op(page, {**delta, "delta": "Four."})
    until(lambda: page.locator("[data-id=a] .reasoning").get_attribute("data-state") == "done", timeout=5, what="the end of it")
    assert page.locator("[data-id=a] .body").inner_text() == "Four."


@pytest.mark.parametrize(
    ("text", "at", "before"),
    [
        ("Local text, cloud text.", 12, "Local text, "),
        ("**Bold** and [a link](https://a.example/x) here", 13, "Bold and "),
        ("One.\n\nTwo words.\n\nThree.", 10, "Two "),
    ],
)
def test_a_reopened_reply_marks_where_another_went_on(page: Page, text: str, at: int, before: str) -> None:
    """The mark stands in the very place, in letters, and the text reads as it was written."""
    op(page, {"type": "clear"})
    segments = [{"provider": "local", "atChars": 0}, {"provider": "cloud", "atChars": at}]
    message = {"type": "message", "id": "a", "role": "assistant", "text": text, "state": "done", "provider": "cloud"}
    op(page, {**message, "segments": segments, "segment": 1})
    mark = page.locator("[data-id=a] .body .seam")
    assert mark.count() == 1
    assert mark.get_attribute("aria-label") == "Continued by the server"
    block = mark.evaluate(
        """(node) => { const range = document.createRange(); range.setStart(node.closest('.block'), 0); range.setEndBefore(node);
             return range.toString(); }"""
    )
    assert block == before
    assert page.locator("[data-id=a]").get_attribute("data-segments") == "2"


def test_a_live_reply_is_that_of_its_reopening(page: Page) -> None:
    """Streamed with a handover in the middle, or opened from what is kept of it: the same elements."""
    text, at = "# Title\n\nSome words and `code`.\n\n- a\n- b\n", 14
    delta = {"type": "delta", "id": "a"}
    body(page, "", "streaming")
    op(page, {**delta, "delta": text[:at], "provider": "local", "segment": 0})
    op(page, {**delta, "delta": text[at:], "provider": "cloud", "segment": 1})
    op(page, {"type": "finish", "id": "a", "state": "done", "provider": "cloud", "model": "m", "stats": {}})
    live = page.locator("[data-id=a]").inner_html()
    segments = [{"provider": "local", "atChars": 0}, {"provider": "cloud", "atChars": at}]
    kept = {"type": "message", "id": "a", "role": "assistant", "text": text, "state": "done", "provider": "cloud", "model": "m"}
    op(page, {"type": "clear"}, {**kept, "segments": segments, "segment": 1, "stats": {}})
    assert page.locator("[data-id=a]").inner_html() == live


def test_a_reopened_reply_that_was_begun_anew_shows_what_was_struck(page: Page) -> None:
    """What the first model had written is struck and the second one's text stands below it, live and from the account."""
    delta = {"type": "delta", "id": "a"}
    parts = [{"provider": "local", "struck": True, "text": "First *try*"}, {"provider": "cloud", "struck": False}]
    body(page, "", "streaming")
    op(page, {**delta, "delta": "First *try*", "provider": "local", "segment": 0})
    op(page, {**delta, "delta": "Second", "provider": "cloud", "segment": 1, "restart": True})
    op(page, {"type": "finish", "id": "a", "state": "done", "provider": "cloud", "model": "m", "stats": {"parts": parts}})
    live = page.locator("[data-id=a]").inner_html()
    assert page.locator("[data-id=a] .struck").inner_text() == "First try"
    kept = {
        "type": "message",
        "id": "a",
        "role": "assistant",
        "text": "Second",
        "state": "done",
        "provider": "cloud",
        "model": "m",
    }
    segments = [{"provider": "cloud", "atChars": 0}]
    op(page, {"type": "clear"}, {**kept, "segments": segments, "segment": 0, "stats": {"parts": parts}})
    assert page.locator("[data-id=a]").inner_html() == live
    assert page.locator("[data-id=a]").get_attribute("data-segments") == "2"


def test_long_code_is_laid_out_in_pieces(page: Page) -> None:
    """A block of many kilobytes is several pieces, the same however it is cut, and its text is whole."""
    code = "".join(f"line {i} of code\n" for i in range(2000))
    pieces = page.evaluate(
        """(code) => {
             const parts = [];
             for (let i = 0; i < code.length; i += 777) parts.push(code.slice(i, i + 777));
             const [a, b] = [cut(['```txt\\n', ...parts, '```\\n']), whole('```txt\\n' + code + '```\\n')];
             const kept = a.querySelector('pre').textContent === code.slice(0, -1);
             return [a.innerHTML === b.innerHTML, kept, a.querySelectorAll('.piece').length];
           }""",
        code,
    )
    assert pieces[:2] == [True, True]
    assert pieces[2] >= 3


def test_five_megabytes_of_table_do_not_hold_up_the_page(page: Page) -> None:
    """What is far too long for Markdown is shown as text, all of it."""
    row = "| cell | another cell | a third |\n"
    text = "| a | b | c |\n|---|---|---|\n" + row * (5_000_000 // len(row))
    page.evaluate("(text) => { window.huge = whole(text); }", text)
    assert page.evaluate("huge.querySelectorAll('td').length") == 0
    assert page.evaluate("huge.textContent.length") == len(text)
    page.evaluate("delete window.huge")


DIAGRAM = "```mermaid\ngraph LR\n  A[Start] --> B[End]\n```"


def test_diagrams_are_drawn_only_for_who_asks(page: Page) -> None:
    """Off by default; with the preference a diagram is a picture whose source is one press away, and is copied as source."""
    body(page, DIAGRAM)
    until(lambda: count(page, "pre") == 1, timeout=5, what="code")
    assert count(page, "img") == 0
    page.evaluate("localStorage.setItem('hybr:preferences', JSON.stringify({mermaid: true}))")
    body(page, DIAGRAM)
    until(lambda: count(page, "img.diagram") == 1, timeout=30, what="the picture")
    assert page.locator("[data-id=a] img").get_attribute("src", timeout=1000).startswith("data:image/svg+xml,")
    assert page.locator("[data-id=a] pre").is_hidden()
    page.get_by_role("button", name="Source").click()
    assert "A[Start]" in page.locator("[data-id=a] pre").inner_text()
    assert page.locator("body > [id^=dhybr], body > svg[id^=hybr]").count() == 0, "the library leaves nothing behind"


@pytest.mark.parametrize(
    "source",
    [
        'graph LR\nA-->B\nclick A href "https://evil.example"',
        '%%{init: {"securityLevel": "loose"}}%%\ngraph LR\nA-->B',
        "---\nconfig:\n  securityLevel: loose\n---\ngraph LR\nA-->B",
        'flowchart LR\nA@{ img: "/v1/models" }',
        'graph LR\nA["<img src=/v1/models>"]-->B',
        "graph LR\nA-->B\nstyle A fill:url(/v1/models)",
        "graph LR\nA[&lt;b&gt;]-->B",
        "no diagram at all",
    ],
)
def test_diagrams_that_could_do_more_stay_code(page: Page, source: str) -> None:
    """Links, pictures, settings of their own, markup and what does not parse: the person sees the source."""
    page.evaluate("localStorage.setItem('hybr:preferences', JSON.stringify({mermaid: true}))")
    body(page, f"```mermaid\n{source}\n```\n\n{DIAGRAM}")
    until(lambda: count(page, "img.diagram") == 1, timeout=30, what="the harmless one")
    assert page.locator("[data-id=a] .block").first.locator("pre").is_visible()
    page.evaluate("localStorage.removeItem('hybr:preferences')")
