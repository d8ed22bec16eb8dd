"""A server between the browser and ours that writes down each request: what a page really asked for, seen from outside it."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOP = {"connection", "transfer-encoding", "keep-alive", "host"}


@contextlib.contextmanager
def recording(target: str, before: Callable[[str], object] = lambda _: None) -> Iterator[tuple[str, list[str]]]:
    """Yield an address that answers with what `target` answers, and the list of paths asked for, growing.

    `before` is called with each path before it is passed on: what waits there is a slow network.
    """
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Pass one request on, whatever its method, and its answer back."""
            seen.append(self.path)
            before(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            ours, theirs = self.headers["host"], urlsplit(target).netloc
            upstream = http.client.HTTPConnection(theirs, timeout=60)
            try:
                upstream.request(self.command, self.path, body or None, headers)
                self._pass(upstream.getresponse(), theirs, ours)
            except ConnectionError:
                self.close_connection = True  # the browser gave this one up
            finally:
                upstream.close()

        def _pass(self, answer: http.client.HTTPResponse, theirs: str, ours: str) -> None:
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {*HOP, "content-length"}:
                    self.send_header(name, value.replace(theirs, ours))  # the page's policy names the host it came from
            if answer.status != 304:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - the base class looks for these

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
