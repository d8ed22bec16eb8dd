"""SentencePiece vocabularies, as a GGUF lists them, made into a tokenizer.json.

GGUF's `llama` tokenizers (Llama 2, TinyLlama, Mistral, Phi-3, Gemma) are SentencePiece's byte-pair models: pieces with scores, no
list of merges. Of all neighbours the pair whose join has the highest score is merged first, so the merges are every way to make a
piece of two, ordered by its score; what has no piece falls back to the tokens of its bytes. Blanks are written as U+2581; most of
these models put one before a text and after each special token.

Only for BPE is that exact. A unigram model's scores are log-probabilities of a whole segmentation; GGUF calls those `t5`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from .errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

BLANK = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
"""GGUF's types of tokens (gguf.TokenType)."""


def ready(tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], *, prefix: bool) -> dict[str, Any]:
    """Return tokenizer.json for a list of pieces.

    Args:
        tokens: text of each id.
        scores: of each id; the higher, the sooner its parts are joined.
        kinds: of each id, as GGUF numbers them.
        prefix: a blank is put before a text.

    Raises:
        SourceError: the lists do not fit together, or there is no token for what is unknown.

    """
    if not len(tokens) == len(scores) == len(kinds):
        raise SourceError(
            f"the tokenizer does not match: tokenizer.ggml has {len(tokens)} tokens, {len(scores)} scores and {len(kinds)} types"
        )
    ids = {token: index for index, token in enumerate(tokens)}
    unknown = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == UNKNOWN), None)
    if unknown is None:
        raise SourceError("the tokenizer does not match: none of tokenizer.ggml.token_type is that of the unknown token (2)")
    falls_back = sum(kind == BYTE for kind in kinds) == 256
    found = Tokenizer(
        models.BPE(vocab=ids, merges=merges(tokens, scores, kinds), unk_token=unknown, fuse_unk=True, byte_fallback=falls_back)
    )
    marks: list[Any] = [normalizers.Prepend(BLANK)] if prefix else []
    found.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", BLANK)])
    strip: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    found.decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    found.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in _of(tokens, kinds, CONTROL, UNKNOWN)])
    found.add_tokens([AddedToken(t, special=False, normalized=False) for t in _of(tokens, kinds, USER)])
    made: dict[str, Any] = json.loads(found.to_str())
    return made


def merges(tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int]) -> list[tuple[str, str]]:
    """Return every pair of pieces that makes a piece, the highest score first; among equals the longer left part."""
    pieces = {token: score for token, score, kind in zip(tokens, scores, kinds, strict=True) if kind in {NORMAL, UNUSED}}
    pairs = [
        (score, token[:cut], token[cut:])
        for token, score in pieces.items()
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    pairs.sort(key=lambda pair: (-pair[0], -len(pair[1])))
    return [(left, right) for _, left, right in pairs]


def _of(tokens: Sequence[str], kinds: Sequence[int], *wanted: int) -> list[str]:
    return [token for token, kind in zip(tokens, kinds, strict=True) if kind in wanted]
