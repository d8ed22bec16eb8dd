"""`python torch_llama.py FOLDER`: what torch makes of a Llama, in float32 and transformers' own code.

Runs in an environment that has torch and transformers (tests/e2e/test_torch.py makes it), and knows nothing of ours. FOLDER has
config.json (transformers' fields), weights.npz (its names) and sequences.json (lists of tokens); written there are, for each
sequence, how far each next token's logit lies under the largest one (behind.json), and the first sequence's logits (logits.npy).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Load, compute, write."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = Path(sys.argv[1])
    model = LlamaForCausalLM(LlamaConfig(**json.loads((folder / "config.json").read_text()), attn_implementation="eager")).eval()
    weights = {name: torch.from_numpy(array) for name, array in np.load(folder / "weights.npz").items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or set(missing) - {"lm_head.weight"}:  # tied
        raise SystemExit(f"missing {missing}, unknown {unknown}")
    model.tie_weights()
    behind = []
    for number, tokens in enumerate(json.loads((folder / "sequences.json").read_text())):
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0].numpy()
        if number == 0:
            np.save(folder / "logits.npy", logits)
        behind.append([float(row.max() - row[token]) for row, token in zip(logits, tokens[1:], strict=False)])
    (folder / "behind.json").write_text(json.dumps(behind))


main()
