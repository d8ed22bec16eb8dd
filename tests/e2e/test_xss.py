"""Nothing that a model, a file or a name says runs in the page or makes it ask for anything (adverse list, item 47).

One page for all: it is watched for the mark that the payloads would set, for violations of the policy (so it is the view that
stops them, not the policy), for dialogs and for every request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hybr_testing import until
from payloads import AWAY, PAYLOADS, P
from shell_testing import ask, finish, op, settle, shell_page, shell_server, wait_sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybr_testing import Watch
    from playwright.sync_api import Browser, Page

# What may stand in a message: tags and attributes of ours, links that are links, and in a formula KaTeX's own, no addresses.
AUDIT = r"""(root) => {
  const list = (text) => new Set(text.split(/\s+/));
  const tags = list(`LI H2 DIV SPAN BUTTON P BR HR H1 H3 H4 H5 H6 EM STRONG DEL CODE PRE BLOCKQUOTE UL OL A TABLE THEAD TBODY TR
    TH TD SUP SUB KBD FOOTER DETAILS SUMMARY IMG svg use`);
  const names = list('class href title target rel tabindex type align start role style open alt src hidden dir');
  const classes = list(`block plain section code code-bar copy-code table-box piece formula display message hidden body
    message-acts stats figure badge icon reasoning thought attached file name size handover seam struck problem cut acts act`);
  const ours = (one) => classes.has(one) || /^(language-\S+|hljs-\S+|math-(inline|block)|\w+_)$/.test(one);
  const never = /^(script|style|img|image|a|iframe|object|embed|use|foreignobject|form|input)$/i;
  const picture = /^data:image\/(png|jpeg|webp|gif|avif);base64,/;
  const bad = [];
  for (const node of [root, ...root.querySelectorAll('*')]) {
    const formula = node.closest('.formula');
    const said = (text) => bad.push(`${node.outerHTML.slice(0, 80)}: ${text}`);
    if (formula ? never.test(node.tagName) : !tags.has(node.tagName)) said('tag');
    for (const {name, value} of node.attributes) {
      if (/^on/i.test(name)) said(name);
      if (/(?:java|vb)script:|url\(/i.test(value) && name !== 'title' && name !== 'alt') said(`${name}=${value}`);
      if (formula && /^(href|src|xlink:href|id|data-.*)$/.test(name) && node !== formula) said(name);
      if (formula || node.closest('.message-acts')) continue; // KaTeX's own, and our buttons
      if (name === 'href' && node.tagName === 'A' && !/^(https?:|mailto:)/.test(value)) said(`href=${value}`);
      if (name === 'href' && node.tagName === 'use' && !value.startsWith('#icon-')) said(`href=${value}`);
      if (name === 'src' && !picture.test(value)) said(`src=${value}`);
      if (name === 'class' && !value.split(/\s+/).every((one) => !one || ours(one))) said(`class=${value}`);
      const language = name === 'data-lang' && node.classList.contains('code');
      const wellKnown = names.has(name) || /^aria-/.test(name) || language || (/^data-/.test(name) && !node.closest('.body'));
      if (!wellKnown) said(`${name}=${value}`);
    }
  }
  return bad;
}"""

LINES = [text for text in PAYLOADS if "\n" not in text and "\r" not in text]
STREAM = """async (text) => {
  const {Reply} = await import(document.querySelector('meta[name=assets]').content + '/js/reply.js');
  const holder = document.createElement('div');
  const body = document.createElement('div');
  body.className = 'body';
  holder.append(body);
  document.querySelector('#scroller').append(holder);
  const reply = new Reply(body);
  for (let i = 0; i < text.length; i += 1) {
    reply.append(text[i]);
    reply.render();
    const fold = holder.querySelector('details');
    if (fold && !fold.open) fold.open = true;
    void body.offsetHeight;
  }
  reply.finish();
  const bad = (AUDIT)(holder);
  const html = body.innerHTML;
  holder.remove();
  return [bad, html];
}""".replace("AUDIT", AUDIT)


@pytest.fixture(scope="module")
def shell(chromium_without_webgpu: Browser) -> Iterator[tuple[Page, Watch]]:
    """One shell for the whole file; at its end nothing has happened that should not."""
    with (
        shell_server() as origin,
        shell_page(chromium_without_webgpu, origin, viewport={"width": 1280, "height": 800}) as (page, watch),
    ):
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        yield page, watch
        settle(page)
        assert page.evaluate("window.__pwned") is None
        assert dialogs == []
        strange = [
            url for url in watch.requests if not (url.rstrip("/") == origin or url.startswith((f"{origin}/assets/", "data:")))
        ]
        assert strange == []
        assert page.evaluate("document.baseURI").startswith(origin)


def message(index: int, text: str, **more: Any) -> dict[str, Any]:
    """A whole reply."""
    return {"type": "message", "id": f"x{index}", "role": "assistant", "text": text, "state": "done", "provider": "cloud", **more}


def harmless(page: Page, root: str) -> None:
    """Only what may stand there stands in what `root` selects, and nothing has run."""
    assert page.evaluate(f"(root) => [...document.querySelectorAll(root)].flatMap({AUDIT})", root) == []
    assert page.evaluate("window.__pwned") is None


def test_there_are_enough_of_them() -> None:
    """At least sixty, each of its own kind."""
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 60


def test_the_audit_finds_what_it_is_for(shell: tuple[Page, Watch]) -> None:
    """Hostile elements that are really there are told, each of them."""
    page, _ = shell
    audit = f"(html) => ({AUDIT})(new DOMParser().parseFromString(`<div>${{html}}</div>`, 'text/html').querySelector('div'))"
    for html in (
        "<b style=background:url(x)>",
        "<img src=//x>",
        "<a href=javascript:x>",
        "<p class=fatal>",
        "<p id=x>",
        "<script>",
        "<svg><a>",
    ):
        assert page.evaluate(audit, html), html


@pytest.mark.parametrize("text", PAYLOADS)
def test_47_model_output_is_harmless_whole_and_byte_by_byte(shell: tuple[Page, Watch], text: str) -> None:
    """Drawn at once and after every single code unit, with folds open: known elements only, and the same ones in the end."""
    page, _ = shell
    op(page, {"type": "clear"}, message(0, text))
    harmless(page, "[data-id=x0]")
    bad, streamed = page.evaluate(STREAM, text)
    assert bad == []
    op(page, {"type": "clear"}, message(0, text))
    whole = page.locator("[data-id=x0] .body").inner_html()
    if "formula" not in whole + streamed and "hljs" not in whole + streamed:  # those two come when their library has
        assert streamed == whole
    assert page.evaluate("window.__pwned") is None


def test_all_of_them_in_one_conversation(shell: tuple[Page, Watch]) -> None:
    """As questions, as answers, as errors and as models' names, opened at once and scrolled through."""
    page, _ = shell
    messages = []
    for index, text in enumerate(PAYLOADS):
        messages.append(message(2 * index, text, role="user"))
        error = {"name": text, "message": text, "code": text}
        messages.append(message(2 * index + 1, text, state="error", error=error, model=text, stats={"model": text, "cost": 1}))
    conversation = {"id": "c", "title": PAYLOADS[0], "temporary": False, "stored": True}
    op(page, {"type": "open", "conversation": conversation, "messages": messages})
    for part in range(11):
        page.evaluate("(part) => { scroller.scrollTop = scroller.scrollHeight * part / 10; }", part)
        settle(page)
        harmless(page, ".message")
    assert page.locator(".message[data-role=user] .body *").count() == 0


def test_streams_that_begin_anew_and_toasts(shell: tuple[Page, Watch]) -> None:
    """Struck text, thoughts told beside the text and notices are as harmless as the rest."""
    page, _ = shell
    op(page, {"type": "clear"})
    ask(page, 1)
    for text in PAYLOADS[::6]:
        op(page, {"type": "delta", "id": "a1", "delta": text, "thought": text, "provider": "local", "segment": 0})
        op(page, {"type": "delta", "id": "a1", "delta": text, "provider": "cloud", "segment": 1, "restart": True})
        op(page, {"type": "toast", "toast": "info", "text": text})
    finish(page, 1)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    settle(page)
    harmless(page, "[data-id=a1]")
    assert page.locator("#toasts :is(img, script, iframe, a)").count() == 0


def test_47_titles_and_imports(shell: tuple[Page, Watch]) -> None:
    """Files of four makers whose titles, texts, names and ids are payloads: read, put on the shelf, listed and opened."""
    page, _ = shell
    own = {
        "format": "hybr",
        "version": 1,
        "conversations": [
            {
                "conversation": {
                    "id": text,
                    "v": 1,
                    "title": text,
                    "createdAt": 1,
                    "updatedAt": index,
                    "folder": text,
                    "leaf": "b",
                },
                "nodes": [
                    {
                        "id": "a",
                        "v": 1,
                        "parent": None,
                        "role": "user",
                        "text": text,
                        "attachments": picture(text),
                        "createdAt": 1,
                    },
                    {"id": "b", "v": 1, "parent": "a", "role": "assistant", "text": text, "model": text, "createdAt": 2},
                ],
            }
            for index, text in enumerate(PAYLOADS)
        ],
    }
    theirs = [
        {
            "title": text,
            "create_time": 1.0,
            "update_time": 2.0,
            "current_node": "b",
            "mapping": {
                "r": {"id": "r", "message": None, "parent": None, "children": ["b"]},
                "b": {
                    "id": "b",
                    "parent": "r",
                    "children": [],
                    "message": {
                        "author": {"role": "assistant", "name": text},
                        "content": {"content_type": "text", "parts": [text]},
                        "metadata": {"model_slug": text},
                    },
                },
            },
        }
        for text in PAYLOADS
    ]
    history = {"currentId": "b", "messages": {"b": {"id": "b", "parentId": None, "role": "assistant", "content": PAYLOADS[0]}}}
    third = [{"id": text, "title": text, "chat": {"title": text, "history": history}} for text in PAYLOADS]
    heads = (f"# {text} <!-- hybr chat {i} 1 2 -->\n\n## {text} <!-- hybr user {text} 1 -->\n\n" for i, text in enumerate(LINES))
    more = (f"\n\n## You ({text}) <!-- hybr assistant a{i} 1 start -->\n\n{text}" for i, text in enumerate(LINES))
    markdown = "\n".join([*heads, *more])
    for content in (json.dumps(own), json.dumps(theirs), json.dumps(third), markdown):
        count = page.evaluate(IMPORT, content)
        assert count >= (len(LINES) if content == markdown else len(PAYLOADS)) * 0.9, "they are read, and are what they are: text"
    until(lambda: page.get_by_test_id("conversation").count() > 5, timeout=10, what="their titles in the list")
    assert page.locator("#history :is(img, script, iframe, object, style, form)").count() == 0
    op(page, {"type": "open", "conversation": {"id": "i", "title": "i", "temporary": False, "stored": True}, "messages": []})
    shown = page.evaluate(ROWS)
    op(page, *({**one, "type": "message", "state": "done"} for one in shown))
    for part in (0.0, 0.5, 1.0):
        page.evaluate("(part) => { scroller.scrollTop = scroller.scrollHeight * part; }", part)
        settle(page)
        harmless(page, ".message")


def picture(text: str) -> list[dict[str, str]]:
    """Attachments whose every field is hostile."""
    return [
        {"kind": "image", "name": text, "mime": text, "data": f"{AWAY}/a.png"},
        {"kind": "image", "name": text, "mime": "image/svg+xml", "data": "data:image/svg+xml;base64,PHN2Zy8+"},
        {"kind": "text", "name": text, "mime": text, "data": text},
    ]


IMPORT = """async (text) => {
  const assets = document.querySelector('meta[name=assets]').content;
  const names = ['exchange/read', 'exchange/shelve', 'shelf'];
  const [{read}, {shelve}, {shelf}] = await Promise.all(names.map((name) => import(`${assets}/js/${name}.js`)));
  let count = 0;
  window.imported ??= [];
  for await (const step of read(new Blob([text]))) {
    if (step.kind !== 'found') continue;
    const {id} = await shelve(shelf, step.one);
    window.imported.push(id);
    count += 1;
  }
  return count;
}"""
ROWS = """async () => {
  const {shelf} = await import(document.querySelector('meta[name=assets]').content + '/js/shelf.js');
  const all = await Promise.all([...new Set(window.imported)].map((id) => shelf.read(id)));
  return all.flatMap(({nodes}) => nodes.map(({id, role, text, model, attachments}, i) =>
    ({id: `${id}${i}${Math.random()}`, role, text, model, attachments})));
}"""


def test_attachments_that_python_hands_over(shell: tuple[Page, Watch]) -> None:
    """Even past the import's own check: a picture is shown only from its own data, anything else is a name."""
    page, _ = shell
    op(page, {"type": "clear"}, *(message(i, "x", role="user", attachments=picture(text)) for i, text in enumerate(PAYLOADS)))
    for part in (0.0, 0.5, 1.0):
        page.evaluate("(part) => { scroller.scrollTop = scroller.scrollHeight * part; }", part)
        settle(page)
        harmless(page, ".message")
    assert page.locator(".message img").count() == 0


def test_47_file_names(shell: tuple[Page, Watch]) -> None:
    """A file may be called what it likes: the chip, the notices and the message show its name as text."""
    page, _ = shell
    op(page, {"type": "clear"})
    names = [text.replace("/", "\u2215")[:120] for text in (PAYLOADS[0], PAYLOADS[12], PAYLOADS[25], PAYLOADS[40])]
    page.get_by_test_id("chooser").set_input_files(
        [{"name": name, "mimeType": "text/html", "buffer": f"<script>{P}</script>".encode()} for name in names]
    )
    until(lambda: page.get_by_test_id("attachment").count() == len(names), timeout=10, what="chips")
    assert page.locator("[data-testid=attachment] .name").all_inner_texts() == [" ".join(name.split()) for name in names]
    assert page.locator("#files :is(img, script, iframe, a)").count() == 0
    before = len(page.evaluate("window.python.sent.filter((m) => m.kind === 'ui')"))
    page.get_by_test_id("send").click()
    [*_, told] = wait_sent(page, "ui", before + 1)
    assert [one["name"] for one in told["attachments"]] == names
    op(page, message(1, "x", role="user", attachments=told["attachments"]))
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    harmless(page, ".message")
