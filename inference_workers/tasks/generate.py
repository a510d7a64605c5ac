"""The task `generate`: token ids of a causal language model to text. Pure."""

from __future__ import annotations

from typing import Any

from inference_workers.models.tokenise import Tokeniser
from inference_workers.ports import Tokens


def generated_of(tokens: Tokens, tokeniser: Tokeniser) -> dict[str, Any]:
    """As `Generated`: the text without its prompt and without special tokens."""
    text = tokeniser.text_of(tokens.ids)
    return {"text": text, "tokens": len(tokens.ids), "finish_reason": tokens.finish_reason}
