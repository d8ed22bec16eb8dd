"""A page on a model's library: WebLLM's own loader and tvmjs, asked for logits and nothing else.

The page drives the pipeline that WebLLM makes when it loads a model (its embedding, prefill and decode calls, its KV cache), so
what is compared with a reference is what a chat would be made of, without templates and sampling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hybr_testing import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser, Page

    from hybr.mlc_build.checkpoint import Checkpoint
    from hybr.mlc_build.compile import Profile
    from hybr.mlc_build.encoder.weights import Encoder

F32 = npt.NDArray[np.float32]
HERE = Path(__file__).parent
VENDOR = HERE.parents[1] / "static/node_modules/@mlc-ai/web-llm/lib"
HTML = b"""<!doctype html><title>library</title><link rel="icon" href="data:,"><script type="module">
import {MLCEngine} from '/vendor/index.js';
let engine, pipe;
window.load = async (name, options = {}, record = null) => {
  await engine?.unload();
  const model = `${location.origin}/models/${name}/`;
  engine = new MLCEngine({appConfig: {model_list: [{model, model_id: name, model_lib: `${model}library.wasm`, ...record}]}});
  await engine.reload(name, options);
  pipe = engine.loadedModelIdToPipeline.get(name);
  pipe.resetKVCache?.();  // an embedding model has none
};
window.embed = async (input) => (await engine.embeddings.create({input})).data.map((one) => one.embedding);
const logitsOf = async (tokens, chunk) => {
  const tvm = pipe.tvm;
  let made;
  for (let at = 0; at < tokens.length; at += chunk) {
    const part = tokens.slice(at, at + chunk);
    tvm.beginScope();
    const logits = await pipe.embedAndForward([part], part.length);
    const copy = tvm.empty(logits.shape, logits.dtype, tvm.cpu()).copyFrom(logits);
    await pipe.device.sync();
    made = Float32Array.from(copy.toArray());
    tvm.endScope();
  }
  return made;
};
window.forward = async (tokens, chunk) => Array.from(await logitsOf(tokens, chunk));
window.greedy = async (tokens, count, chunk) => {
  pipe.resetKVCache();
  const found = [];
  for (let logits = await logitsOf(tokens, chunk); ; logits = await logitsOf(found.slice(-1), 1)) {
    let best = 0;
    for (let i = 1; i < logits.length; ++i) if (logits[i] > logits[best]) best = i;
    found.push(best);
    if (found.length === count) return found;
  }
};
// What the model would say next after each beginning of an answer: equal to the answer itself where greedy steps give it. The
// device is waited for once, not once a token.
window.follow = async (tokens, answer, chunk) => {
  const tvm = pipe.tvm, copies = [];
  pipe.resetKVCache();
  for (let at = -1; at + 1 < answer.length; ++at) {
    const given = at < 0 ? tokens : answer.slice(at, at + 1);
    for (let from = 0; from < given.length; from += chunk) {
      const part = given.slice(from, from + chunk);
      tvm.beginScope();
      const logits = await pipe.embedAndForward([part], part.length);
      if (from + chunk >= given.length)
        copies.push(tvm.detachFromCurrentScope(tvm.empty(logits.shape, logits.dtype, tvm.cpu()).copyFrom(logits)));
      tvm.endScope();
    }
  }
  await pipe.device.sync();
  return copies.map((copy) => {
    const logits = copy.toArray();
    copy.dispose();
    let best = 0;
    for (let i = 1; i < logits.length; ++i) if (logits[i] > logits[best]) best = i;
    return best;
  });
};
window.reset = () => pipe.resetKVCache();
window.pop = (count) => {
  const tvm = pipe.tvm;
  tvm.beginScope();
  tvm.getGlobalFunc('vm.builtin.kv_state_popn')(pipe.kvCache, tvm.scalar(0, 'int64'), tvm.scalar(count, 'int32'));
  tvm.endScope();
};
window.ready = true;
</script>"""


class Library:
    """A model in the page: what `native_model.Native` is on this machine's processor."""

    def __init__(self, page: Page, name: str, chunk: int, record: dict[str, Any] | None = None) -> None:
        """Load what the desk serves under a name, or what a record of WebLLM's AppConfig names."""
        self.page, self.chunk = page, chunk
        page.evaluate("([name, record]) => window.load(name, {}, record)", [name, record])

    def forward(self, tokens: Sequence[int], chunk: int | None = None) -> F32:
        """Append tokens, in chunks, and return the last logits."""
        made = self.page.evaluate("([tokens, chunk]) => window.forward(tokens, chunk)", [list(tokens), chunk or self.chunk])
        return np.array(made, np.float32)

    def reset(self) -> None:
        """Start anew."""
        self.page.evaluate("window.reset()")

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Start anew, read a prompt, and return the tokens of the largest logits, whatever they mean."""
        told = [list(prompt), count, self.chunk]
        made: list[int] = self.page.evaluate("([tokens, count, chunk]) => window.greedy(tokens, count, chunk)", told)
        return made

    def follow(self, prompt: Sequence[int], answer: Sequence[int]) -> list[int]:
        """Start anew, read a prompt, and return the token of the largest logit after each beginning of an answer to it."""
        told = [list(prompt), list(answer), self.chunk]
        made: list[int] = self.page.evaluate("([tokens, answer, chunk]) => window.follow(tokens, answer, chunk)", told)
        return made

    def pop(self, count: int) -> None:
        """Forget the last tokens."""
        self.page.evaluate("count => window.pop(count)", count)


def make(opened: Checkpoint | Encoder, quantisation: str, profile: Profile, folder: Path) -> int:
    """Put a checkpoint's artifact into a folder by the steps of `hybr models build`, which keep a library by what made it.

    Returns the graphics memory that its manifest would promise, in bytes.
    """
    from families import ENTRY

    from hybr.mlc_build import build, checkpoint, memory, quantise, shards, tokenizer
    from hybr.mlc_build.encoder import artifact
    from hybr.mlc_build.model.config import width
    from hybr.mlc_build.progress import Progress

    entry = dataclasses.replace(ENTRY, quantisation=quantisation)
    if isinstance(opened, checkpoint.Checkpoint):
        shards.write(quantise.quantise(opened.tensors, opened.config, quantisation), folder)
        tokenizer.write(opened, folder)
    else:
        artifact.write(opened, quantisation, folder)
    build.write_config(entry, opened, build.conversation_of(entry, opened), folder)
    progress = Progress({profile: 1.0}, lambda _told: None, io.StringIO())
    progress.step(profile, "compiling")
    made = build._library(entry, opened, profile, progress)
    (folder / "library.wasm").symlink_to(made / build.LIBRARIES[profile])
    planned, weights = (made / build.PLANNED).read_text().split()[0], sum(file.stat().st_size for file in folder.glob("*.bin"))
    return memory.estimate(opened.config, weights, int(planned), width(quantisation))


@contextlib.contextmanager
def desk(models: Path, chromium: Browser, html: bytes = HTML, script: str = "") -> Iterator[Page]:
    """Open the page, with a script before its own; every folder of `models` is served."""
    with serve(models, html) as origin:
        page = chromium.new_page()
        page.set_default_timeout(0)  # a software adapter beside busy neighbours may take minutes to compile a library
        page.add_init_script(script)
        page.goto(origin)
        until(lambda: page.evaluate("window.ready"), timeout=60, what="the page's module")
        yield page
        page.close()


@contextlib.contextmanager
def serve(models: Path, html: bytes = HTML) -> Iterator[str]:
    """Serve a page, WebLLM, and every folder of `models` under its name; yields the origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, rest = self.path.partition("?")[0].lstrip("/").partition("/")
            file = VENDOR / rest if kind == "vendor" else models / rest.replace("resolve/main/", "")
            body = html if not kind else file.read_bytes() if file.is_file() else None
            told = mimetypes.guess_type(file)[0] if kind else "text/html"
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", told or "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
