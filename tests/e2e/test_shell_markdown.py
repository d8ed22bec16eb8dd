"""What a model writes becomes DOM that is safe, and the same DOM however it was cut into deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shell_testing import op, settle, shell_page, shell_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

HOSTILE = [
    "<script>window.__pwned = 1</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    '<img src=x onerror="window.__pwned = 1">',
    "<img src=https://evil.example/pixel.png>",
    "![pixel](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    '![a][ref]\n\n[ref]: https://evil.example/ref.png "t"',
    '<svg onload="window.__pwned = 1"><animate onbegin="window.__pwned = 1"/></svg>',
    '<svg><a xlink:href="javascript:window.__pwned = 1"><text y=20>x</text></a></svg>',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.__pwned=1&gt;">',
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=window.__pwned=1>",
    '<iframe srcdoc="<script>parent.__pwned = 1</script>"></iframe>',
    '<iframe src="javascript:parent.__pwned=1"></iframe>',
    '<object data="javascript:window.__pwned=1"></object><embed src=x>',
    '<a href="javascript:window.__pwned = 1">x</a>',
    "[x](javascript:window.__pwned=1)",
    "[x](JaVaScRiPt:window.__pwned=1)",
    "[x](java\nscript:window.__pwned=1)",
    "[x](&#106;avascript:window.__pwned=1)",
    "[x](data:text/html,<script>window.__pwned=1</script>)",
    "[x](vbscript:msgbox(1))",
    "<javascript:window.__pwned=1>",
    "[x](/v1/chat/completions)",
    "[x](//evil.example)",
    '[x](https://ok.example "\\" onmouseover=window.__pwned=1 x=\\"")',
    '![" onerror=window.__pwned=1 x="](https://ok.example/a.png)',
    '```"><img src=x onerror=window.__pwned=1>\ncode\n```',
    '```js onload="window.__pwned=1"\n</code></pre><script>window.__pwned=1</script>\n```',
    "`<img src=x onerror=window.__pwned=1>`",
    '<details open ontoggle="window.__pwned=1"><summary>x</summary></details>',
    "<input autofocus onfocus=window.__pwned=1>",
    "<video><source onerror=window.__pwned=1></video><audio src=x onerror=window.__pwned=1>",
    "<style>@import url(https://evil.example/x.css); body { background: url(https://evil.example/b) }</style>",
    "<link rel=stylesheet href=https://evil.example/x.css><base href=https://evil.example/>",
    '<meta http-equiv=refresh content="0;url=javascript:window.__pwned=1">',
    '<div style="background:url(https://evil.example/s)" class=fatal id=composer data-testid=message>x</div>',
    '<noscript><p title="</noscript><img src=x onerror=window.__pwned=1>">',
    "<template><script>window.__pwned=1</script></template><xmp><script>1</script></xmp>",
    "<!--><script>window.__pwned=1</script>-->",
    "<![CDATA[<script>window.__pwned=1</script>]]>",
    "| a |\n|---|\n| <img src=x onerror=window.__pwned=1> |",
    "- [ ] <script>window.__pwned=1</script>\n- [x] b",
    "\u202e<script>window.__pwned=1</script>\x00<scr\x00ipt>window.__pwned=1</scr\x00ipt>",
]
TAGS = "DIV SPAN BUTTON P BR HR H1 H2 H3 H4 H5 H6 EM STRONG DEL CODE PRE BLOCKQUOTE UL OL LI A TABLE THEAD TBODY TR TH TD SUP SUB"
ATTRIBUTES = "class href title target rel tabindex type align start"

PIECES = [
    "# Title", "para", " *em* and **strong** `code`", "\n", "\n\n", "- item", "- [ ] task", "  nested", "1. one", "> quote",
    "```py\n", "```", "```\n", "\n\n\n",
    "x  \n", "    indented", "| a | b |", "|---|--:|", "---", "===", "[link](https://a.example)", "[ref]",
    "[ref]: https://b.example", "<b>html</b>", "-", "=", "|", " ", "#", ">", "`", "*", "1.", "   ", "\r\n", "\t", "***", "~~~",
    "![i](x)", "\\", "<", "&amp;", "é", "😀",
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


AUDIT = """(root) => {
  const [tags, attributes] = [new Set('TAGS'.split(' ')), new Set('ATTRIBUTES'.split(' '))];
  const classes = /^(block|block code|code-bar|copy-code|table-box|language-\\S+)$/;
  const bad = [];
  for (const node of root.querySelectorAll('*')) {
    if (!tags.has(node.tagName)) bad.push(node.tagName);
    for (const {name, value} of node.attributes) {
      if (!attributes.has(name)) bad.push(`${node.tagName} ${name}=${value}`);
      if (name === 'href' && !/^(https?:|mailto:)/.test(value)) bad.push(`href=${value}`);
      if (name === 'class' && !classes.test(value)) bad.push(`class=${value}`);
    }
  }
  return bad;
}""".replace("TAGS", TAGS).replace("ATTRIBUTES", ATTRIBUTES)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_harmless_whole_and_byte_by_byte(page: Page, text: str) -> None:
    """Only known tags, attributes and link schemes come out; nothing runs and nothing is asked of any host."""
    op(page, {"type": "clear"}, {"type": "message", "id": "whole", "role": "assistant", "text": text, "state": "done"})
    op(page, {"type": "message", "id": "cut", "role": "assistant", "text": "", "state": "streaming"})
    for character in text:
        op(page, {"type": "delta", "id": "cut", "delta": character, "provider": "local", "segment": 0})
        page.evaluate("void document.querySelector('[data-id=cut]').offsetHeight")
    settle(page)
    op(page, {"type": "finish", "id": "cut", "state": "done", "provider": "local", "stats": {}})
    audit = f"(id) => ({AUDIT})(document.querySelector(`[data-id=${{id}}] .body`))"
    assert page.evaluate(audit, "whole") == []
    assert page.evaluate(audit, "cut") == []
    body = "(id) => document.querySelector(`[data-id=${id}] .body`).innerHTML"
    assert page.evaluate(body, "whole") == page.evaluate(body, "cut")
    assert page.evaluate("window.__pwned") is None


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
               return node === first() && root.children.length === 50;
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
