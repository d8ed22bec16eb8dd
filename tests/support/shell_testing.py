"""The shell alone: its real page and modules from a small static server, with scripted workers in place of Python and the engine.

The workers are the fault lab's: `window.python.say(message)` plays Python, `window.python.sent` is what the shell told it. All
else (page, styles, modules, marked, DOMPurify, the content security policy) is what ships.
"""

from __future__ import annotations

import contextlib
import http.server
import mimetypes
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybr_testing import Watch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

STATIC = Path(__file__).parents[2] / "static"
ASSETS = "/assets/test"
ROOTS = {
    "js": STATIC / "js",
    "css": STATIC / "css",
    "vendor/marked": STATIC / "node_modules/marked/lib",
    "vendor/dompurify": STATIC / "node_modules/dompurify/dist",
    "vendor/highlight": STATIC / "node_modules/@highlightjs/cdn-assets/es",
    "vendor/katex": STATIC / "node_modules/katex/dist",
    "vendor/mermaid": STATIC / "node_modules/@mermaid-js/tiny/dist",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline' blob:; font-src 'self' data:; img-src 'self' data: blob:; "
    "connect-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SCRIPTED_WORKERS = """
(() => {
  window.__workers = [];
  window.__violations = [];
  document.addEventListener('securitypolicyviolation', (e) => window.__violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  const Native = window.Worker;
  window.Worker = class extends EventTarget {
    sent = [];
    alive = true;
    constructor(url, options) {
      if (String(url).includes('exchange')) return new Native(url, options);
      super();
      this.url = String(url);
      this.options = options;
      window.__workers.push(this);
      if (this.url.includes('python')) window.python = this;
      else window.engine = this;
    }
    postMessage(message, transfer = []) {
      this.sent.push({...message, transferred: transfer.length});
      this.onsent?.(message);
    }
    say(message) { this.dispatchEvent(new MessageEvent('message', {data: message})); }
    fail(message) { this.dispatchEvent(new ErrorEvent('error', {message})); }
    terminate() { this.alive = false; }
  };
})();
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves what the bundle would, straight from the source tree."""

    def do_GET(self) -> None:
        """Answer with the page, a file, or 404."""
        path = self.path.split("?")[0]
        body = (STATIC / "index.html").read_text().replace("{{assets}}", ASSETS).encode() if path == "/" else self.asset(path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8" if path == "/" else content_type(path))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def asset(self, path: str) -> bytes | None:
        """Return the file at `path`, if there is one."""
        for prefix, root in ROOTS.items():
            if path.startswith(f"{ASSETS}/{prefix}/"):
                file = root / path.removeprefix(f"{ASSETS}/{prefix}/")
                return file.read_bytes() if file.is_file() else None
        return None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Keep quiet."""


def content_type(path: str) -> str:
    """Return the MIME type that module scripts need."""
    return "text/javascript" if path.endswith((".js", ".mjs")) else mimetypes.guess_type(path)[0] or "application/octet-stream"


@contextlib.contextmanager
def shell_server() -> Iterator[str]:
    """Serve the shell on a free loopback port; yields the origin."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def shell_page(browser: Browser, origin: str, *, core: bool = True, **options: Any) -> Iterator[tuple[Page, Watch]]:
    """Open the shell as a new visitor; `core` plays Python's `ready` at once. Checks afterwards that all was quiet."""
    context = browser.new_context(**options)
    context.add_init_script(SCRIPTED_WORKERS)
    watch = Watch(origin)
    watch.attach(context)
    page = context.new_page()
    page.goto(origin)
    if core:
        say(page, {"kind": "ready", "stage": "core"})
        wait_sent(page, "rpc")  # the shell's own question, who answers; what comes after it is the test's
        page.evaluate("() => { python.sent = python.sent.filter(({kind}) => kind !== 'rpc'); }")
    yield page, watch
    assert page.evaluate("window.__violations") == []
    context.close()
    watch.check()


def say(page: Page, *messages: dict[str, Any]) -> None:
    """Play messages from Python, in order."""
    page.evaluate("(messages) => messages.forEach((message) => window.python.say(message))", list(messages))


def op(page: Page, *ops: dict[str, Any]) -> None:
    """Play view ops from Python, in order."""
    say(page, *({"kind": "view", "op": one} for one in ops))


def sent(page: Page, kind: str) -> list[dict[str, Any]]:
    """Return what the shell told Python under `kind`, in order."""
    found: list[dict[str, Any]] = page.evaluate(
        "(kind) => window.python.sent.filter((m) => m.kind === kind).map(({port, ...rest}) => rest)", kind
    )
    return found


def settle(page: Page) -> None:
    """Wait until what came has been drawn: two frames."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_sent(page: Page, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for `count` messages of `kind`."""
    return until(
        lambda: found if len(found := sent(page, kind)) >= count else [], timeout=10, what=f"{count} x {kind}", every=0.02
    )


def ask(page: Page, number: int, *, text: str = "question") -> None:
    """Show a question and the start of its reply."""
    op(
        page,
        {"type": "message", "id": f"u{number}", "role": "user", "text": text, "state": "done"},
        {"type": "message", "id": f"a{number}", "role": "assistant", "text": "", "state": "streaming"},
        {"type": "busy", "value": True},
    )


def delta(page: Page, number: int, text: str, **more: Any) -> None:
    """Stream a piece into a reply."""
    op(page, {"type": "delta", "id": f"a{number}", "delta": text, "provider": "local", "segment": 0, **more})
    settle(page)


def finish(page: Page, number: int, state: str = "done", **more: Any) -> None:
    """End a reply."""
    op(
        page,
        {"type": "finish", "id": f"a{number}", "state": state, "provider": "local", "model": "tiny", **more},
        {"type": "busy", "value": False},
    )


def reply(page: Page, number: int) -> Locator:
    """Return a reply's element."""
    return page.locator(f"[data-testid=message][data-id=a{number}]")
