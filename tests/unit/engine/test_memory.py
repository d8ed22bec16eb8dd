"""The graphics memory that WebGPU really gives out while a model loads and answers, against what its manifest promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from engine_desk import Bench, Desk, Model
from shelf import built

from hybr.mlc_build.build import LIBRARIES
from hybr.mlc_build.store import manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.mlc_build.compile import Profile

pytestmark = pytest.mark.models

WEIGH = """() => new Promise((done) => {
  bench.worker.addEventListener('message', ({data}) => data.weighed && done(data.weighed), {once: true});
  bench.worker.postMessage({kind: 'weigh'});
})"""


def run(bench: Bench, desk: Desk, name: str, lengths: list[int], profile: Profile = "software") -> dict[str, Any]:
    """Load a model, let it read prompts of these lengths in letters, and return what its worker counted after each.

    The page, which knows its adapter for a software one, is given the profile's library under the name of that for it.
    """
    folder, found = built(name), manifest(name)
    files = {file["path"]: (folder / file["path"]).read_bytes() for file in found["files"]}
    model = Model(name, files | {LIBRARIES["software"]: files[LIBRARIES[profile]]}, folder.name)
    answer = bench.call("load", {"model": desk.add(model)})
    assert answer.get("model") == name, answer
    weighed = []
    for number, length in enumerate(lengths):
        messages = [{"role": "user", "content": "the sea " * (length // 8)}]
        options = {"temperature": 0.7, "max_tokens": 4}
        assert "failed" not in bench.call("chat", {"requestId": f"r{number}", "messages": messages, "options": options})
        weighed.append(bench.page.evaluate(WEIGH))
    return {"weighed": weighed, "manifest": found}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("tiny", "software"),
        *(
            pytest.param(*asked, marks=pytest.mark.long)  # an adapter that compiles these libraries faster is test_halves.py's
            for asked in (("tiny", "gpu"), ("smollm2-135m", "software"), ("smollm2-135m", "gpu"))
        ),
    ],
)
def test_the_manifest_says_what_webgpu_gives(open_bench: Callable[..., Bench], desk: Desk, name: str, profile: Profile) -> None:
    """After a prompt of more than a chunk the estimate is within a tenth of the buffers; none is larger than the limit asked."""
    found = run(open_bench("/pages/weighed.worker.js"), desk, name, [900], profile)
    (weighed,), told = found["weighed"], found["manifest"]
    print(f"{name}, {profile}: {weighed['peak']} bytes of graphics memory, {told['vram_bytes']} promised")
    assert weighed["peak"] == pytest.approx(told["vram_bytes"], rel=0.1), json.dumps(weighed)
    assert weighed["largest"] <= told["limits"]["maxBufferSize"]


def test_prompts_of_any_length_need_no_more(open_bench: Callable[..., Bench], desk: Desk) -> None:
    """Other lengths than the first ask for nothing that stays: what a call needs is planned for the longest."""
    weighed = run(open_bench("/pages/weighed.worker.js"), desk, "tiny", [900, 300, 500, 700, 60])["weighed"]
    assert weighed[-1]["live"] <= weighed[0]["live"] * 1.02
