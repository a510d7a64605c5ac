"""The task `generate`: token ids of a causal language model to text. Pure."""

from __future__ import annotations

from inference_workers.ports import Tokens
from inference_workers.tokenise import Tokeniser
from schemas.predictions import Generated


def generated_of(tokens: Tokens, tokeniser: Tokeniser) -> Generated:
    """The text without its prompt and without special tokens."""
    text = tokeniser.text_of(tokens.ids)
    return Generated.model_construct(text=text, tokens=len(tokens.ids), finish_reason=tokens.finish_reason)
