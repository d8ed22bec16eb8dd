"""The message view: deltas a second from Python, its longest task while a long reply streams, opening a long conversation.

Tasks are measured in time of the page's own thread (Chromium's trace, `tdur`), which other work on the machine does not stretch.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Figure, bench
from hybr_testing import RECORDER, launch, serve, until, wait_core
from playwright.sync_api import sync_playwright
from shell_testing import ask, finish, op, settle, shell_page, shell_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

DELTAS = 6000
LONG = 100_000
COUNT = 1000
TRACE = ["toplevel", "devtools.timeline"]
SECTION = """## Section {i}

Some *text* with **bold**, `code`, a [link](https://a.example/{i}) and a formula $a_{i}^2 + b^2$. It costs $5, or $6 with more,
and goes on for a while, as the paragraphs of a long reply do, until there is enough to fill a few lines of the column.

- one item of {i}, with some words
- another, with `code`

| name | value |
|---|--:|
| row {i} | {i} |

```python
def f{i}(x: int) -> int:
    # what it does
    return x * {i} + "text".count("t")
```

"""

# Each delta as it comes from Python's worker, until the reply has ended and is drawn.
COUNTER = """() => {
  const {worker} = window.__workers.find(({url}) => url.includes('python'));
  window.count = {deltas: 0, first: 0, last: 0, done: false};
  worker.addEventListener('message', ({data}) => {
    const message = typeof data === 'string' ? JSON.parse(data) : data;
    if (message.kind !== 'view') return;
    if (message.op.type === 'delta') {
      window.count.deltas += 1;
      window.count.first ||= performance.now();
    }
    if (message.op.type === 'finish') requestAnimationFrame(() => setTimeout(() => {
      Object.assign(window.count, {last: performance.now(), done: true});
    }));
  });
}"""
STREAM = """async (text) => {
  for (let i = 0; i < text.length; ) {
    for (let k = 0; k < 4; k += 1, i += 40)
      python.say({kind: 'view', op: {type: 'delta', id: 'a1', delta: text.slice(i, i + 40), provider: 'local', segment: 0}});
    await new Promise((done) => setTimeout(done, 8));
  }
}"""
# What a view without blocks does once a frame: all of it anew.
NAIVE = """async (text) => {
  const assets = document.querySelector('meta[name=assets]').content;
  const [{parse}, {default: purify}] = await Promise.all([import(`${assets}/vendor/marked/marked.esm.js`),
    import(`${assets}/vendor/dompurify/purify.es.mjs`)]);
  const root = document.createElement('div');
  document.querySelector('#scroller').append(root);
  await new Promise((done) => setTimeout(done));
  root.innerHTML = purify.sanitize(parse(text));
  void root.offsetHeight;
}"""
OPEN = """async (messages) => {
  const begin = performance.now();
  python.say({kind: 'view', op: {type: 'open', conversation: {id: 'c', title: 't', temporary: false, stored: true}, messages}});
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begin;
}"""
ALL = """async (messages) => {
  const {Message} = await import(document.querySelector('meta[name=assets]').content + '/js/message.js');
  const list = document.createElement('ol');
  document.querySelector('#scroller').append(list);
  const begin = performance.now();
  for (const {type, ...data} of messages) {
    const message = new Message(data);
    while (message.dirty) message.draw();
    list.append(message.element);
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const took = performance.now() - begin;
  list.remove();
  return took;
}"""


def long_text(size: int) -> str:
    """Markdown of everything, `size` characters."""
    text = "".join(SECTION.replace("{i}", str(i)) for i in range(size // 400))
    return text[:size]


def message(index: int) -> dict[str, Any]:
    """One message of a long conversation."""
    role = "assistant" if index % 2 else "user"
    text = SECTION.replace("{i}", str(index)) if index % 2 else f"Question {index}?"
    return {"type": "message", "id": f"m{index}", "role": role, "text": text, "state": "done", "provider": "local", "model": "m"}


def longest_task(browser: Browser, page: Page, script: str, text: str) -> float:
    """Milliseconds of its own time that the page's thread was busy at most without a pause while `script` ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        browser.start_tracing(page=page, path=path, categories=TRACE)
        page.evaluate(script, text)
        settle(page)
        browser.stop_tracing()
        events = json.loads(path.read_text())["traceEvents"]
    named = [one for one in events if one.get("name") == "thread_name" and one["args"]["name"] == "CrRendererMain"]
    mains = {(one["pid"], one["tid"]) for one in named}
    tasks = [
        one for one in events if one.get("ph") == "X" and one["name"].endswith("RunTask") and (one["pid"], one["tid"]) in mains
    ]
    return float(max(one.get("tdur", 0) for one in tasks)) / 1000


@bench
def view_rate() -> Iterator[Figure]:
    """Deltas a second from the orchestrator in Python's worker until they are drawn."""
    script = {"pace": 0, "cloud": [[{"again": ["word ", DELTAS]}]]}
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as driver,
        serve(Path(folder), "--no-build", log=Path(folder) / "log", env={"HYBR_TEST_FAULTS": "1"}) as served,
    ):
        browser = launch(driver, webgpu=False)
        context = browser.new_context()
        context.add_init_script(RECORDER)
        page = context.new_page()
        page.goto(f"{served.url}/?" + urllib.parse.urlencode({"faults": json.dumps(script), "mode": "cloud"}))
        wait_core(page)
        page.evaluate(COUNTER)
        page.get_by_test_id("composer").fill("go")
        page.get_by_test_id("composer").press("Enter")
        until(lambda: page.evaluate("window.count.done"), timeout=240, what="the reply's end")
        found = page.evaluate("window.count")
        words = page.locator(".message[data-role=assistant] .body").inner_text().split()
        browser.close()
    if len(words) != DELTAS:
        raise AssertionError(f"{len(words)} words were shown of {DELTAS}")
    rate = found["deltas"] / (found["last"] - found["first"]) * 1000
    yield Figure(
        "view.deltas", rate, "deltas/s", "limit: 900", 900.0, f"{DELTAS} of a scripted cloud, through Pyodide to the screen"
    )


@bench
def view_long() -> Iterator[Figure]:
    """The longest task while a reply of 100 kB streams, and the time to open a conversation of 1,000 messages."""
    text, messages = long_text(LONG), [message(i) for i in range(COUNT)]
    with sync_playwright() as driver, shell_server() as origin:
        browser = launch(driver, webgpu=False)
        with shell_page(browser, origin, viewport={"width": 1280, "height": 800}) as (page, _):
            op(page, message(1))  # what is loaded with the first formula and the first code
            until(lambda: page.locator(".formula, .hljs-keyword").count() >= 2, timeout=60, what="KaTeX and highlight.js")
            op(page, {"type": "clear"})
            ask(page, 1)
            task = longest_task(browser, page, STREAM, text)
            finish(page, 1)
            shown = page.locator("[data-id=a1] .body").text_content() or ""
            if f"Section {LONG // 400 - 200}" not in shown:
                raise AssertionError("the reply was not drawn")
            op(page, {"type": "clear"})
            naive = longest_task(browser, page, NAIVE, text)
            where = "100 kB of headings, lists, tables, code and formulas in 40-character deltas; thread time"
            yield Figure("view.longest_task", task, "ms", "limit: 50", 50.0, where)
            yield Figure("view.longest_task_peer", task, "ms", "marked and DOMPurify over the whole text, once", naive, where)
            opened = statistics.median(page.evaluate(OPEN, messages) for _ in range(5))
            mounted = page.locator(".message").count()
            op(page, {"type": "clear"})
            every = page.evaluate(ALL, messages)
            where = f"to the first frame that shows its end; {mounted} messages in the page"
            yield Figure("view.open_1000", opened, "ms", "limit: 300", 300.0, where)
            yield Figure("view.open_1000_peer", opened, "ms", "all 1,000 put into the page", every, where)
        browser.close()
