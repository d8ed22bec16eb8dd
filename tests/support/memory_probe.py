"""`python memory_probe.py CHECKPOINT OUT QUANTISATION`: make a checkpoint's weights alone, and tell what it took.

A process of its own, so that the system's word for its peak is the build's; prints {"before", "peak"} in bytes.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from pathlib import Path


def main() -> None:
    """Quantise and write shards, as the build's weights step does."""
    from hybr.mlc_build import checkpoint, huggingface, own, quantise, shards

    source, out, quantisation = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    entry = dataclasses.replace(own.entry_of(str(source), quantisation), context=256)
    opened = (checkpoint.open_gguf if source.is_file() else huggingface.open_folder)(source, entry)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shards.write(quantise.quantise(opened.tensors, opened.config, quantisation), out)
    print(json.dumps({"before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


main()
