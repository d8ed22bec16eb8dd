"""`python bytes_probe.py CHECKPOINTS OUT`: make everything but libraries of the checkpoints there, and tell the files' sums.

A process of its own, so that nothing is the same by chance: the order in which sets give their elements is the process's own.
Prints {"<checkpoint>/<form>/<file>": sha256}.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path


def main() -> None:
    """Make each checkpoint in each of its forms."""
    from hybr.mlc_build import build, own, shards, tokenizer
    from hybr.mlc_build.checkpoint import Checkpoint, open_gguf
    from hybr.mlc_build.encoder import artifact
    from hybr.mlc_build.encoder.config import FORMS
    from hybr.mlc_build.quantise import quantise

    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = {}
    for path in sorted(source.iterdir()):
        for form in FORMS if path.name == "encoder" else own.QUANTISATIONS:
            folder = out / path.name / form
            folder.mkdir(parents=True)
            entry = own.entry_of(str(path), form)
            opened = open_gguf(path, entry) if path.is_file() else build._open_folder(entry)[0]
            if isinstance(opened, Checkpoint):
                shards.write(quantise(opened.tensors, opened.config, form), folder)
                tokenizer.write(opened, folder)
            else:
                artifact.write(opened, form, folder)
            build.write_config(entry, opened, build.conversation_of(entry, opened), folder)
            for file in folder.rglob("*"):
                if file.is_file():
                    found[f"{path.name}/{form}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    print(json.dumps(found))


main()
