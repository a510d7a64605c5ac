"""Texts to tokens, with the `tokenizers` library directly: capped in bytes first, then in tokens, both flagged."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set on purpose before the import: threads of the tokeniser would fight the compute thread for two cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer as _Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalisers

UTF8_CONTINUATION = 0b1000_0000
HELD_TEXTS_MAX, HELD_CHARACTERS_MAX = 2, 512
"""So few and short texts are tokenised without letting go of the interpreter, for some 10 us each. `encode_batch_fast`
lets go, and to get it back from the computing thread took 90 us in the mean, ten times the work itself."""

SPACES_BEFORE = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""Where Transformers' pipelines leave out the spaces that a tokeniser of words puts before each; in this order."""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A text or a pair as token ids, special ones included. `unknown` counts those that the vocabulary does not know;
    `second` is where the second text begins, by token types, None for one text or a model without token types."""

    ids: list[int]
    unknown: int
    truncated: bool
    second: int | None = None


def cut_utf8(text: str, bytes_max: int) -> tuple[str, bool]:
    """The longest prefix of whole characters within `bytes_max` bytes of UTF-8, and whether anything was cut."""
    if len(text) * 4 <= bytes_max:
        return text, False
    raw = text.encode()
    if len(raw) <= bytes_max:
        return text, False
    end = bytes_max
    while end > 0 and raw[end] & 0b1100_0000 == UTF8_CONTINUATION:
        end -= 1
    return raw[:end].decode(), True


class Tokeniser:
    """A model's tokeniser. Used by one thread; cost is bounded by `text_bytes_max` a text."""

    def __init__(self, folder: Path, *, tokens_max: int, text_bytes_max: int) -> None:
        """Reads `tokenizer.json`. Raises OSError or ValueError when it cannot be used."""
        path = folder / "tokenizer.json"
        try:
            description = path.read_text(encoding="utf-8")
            self._tokenizer = _Tokenizer.from_str(description)
        except OSError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path}: {error}") from None
        if _says_lower_case(folder):
            given = self._tokenizer.normalizer
            self._tokenizer.normalizer = Normalisers([Lowercase(), *([] if given is None else [given])])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(tokens_max)
        self._text_bytes_max, self._tokens_max = text_bytes_max, tokens_max
        self._of_words = type(self._tokenizer.model).__name__ != "BPE"
        said = _said_unknown_token(folder)
        self._unknown_id = self._tokenizer.token_to_id(said) if said else _own_unknown_id(self._tokenizer, description)

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def tokenise(self, texts: Sequence[str | tuple[str, str]]) -> list[Tokenised]:
        """Tokens of each text or pair, in order. An empty text gives the special tokens alone."""
        cut = [self._cut(text) for text in texts]
        encodings = self._encode([text for text, _ in cut])
        unknown_id, tokens_max = self._unknown_id, self._tokens_max
        tokenised = []
        for encoding, (text, was_cut) in zip(encodings, cut, strict=True):
            ids = encoding.ids
            unknown = 0 if unknown_id is None else ids.count(unknown_id)
            second = None if isinstance(text, str) else _second_of(encoding.type_ids)
            # Only a full one can have overflowed; asking is slow.
            cut_short = was_cut or (len(ids) >= tokens_max and bool(encoding.overflowing))
            tokenised.append(Tokenised(ids, unknown, cut_short, second))
        return tokenised

    def _encode(self, texts: Sequence[str | tuple[str, str]]) -> Sequence[Any]:
        if len(texts) > HELD_TEXTS_MAX or sum(map(_characters, texts)) > HELD_CHARACTERS_MAX:
            return self._tokenizer.encode_batch_fast(texts)
        encode = self._tokenizer.encode
        return [encode(one) if isinstance(one, str) else encode(*one) for one in texts]

    def text_of(self, ids: Sequence[int]) -> str:
        """Token ids as text, without special tokens, as Transformers' text-generation writes it."""
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        for one in SPACES_BEFORE if self._of_words else ():
            text = text.replace(one, one.strip())
        return text

    def _cut(self, text: str | tuple[str, str]) -> tuple[str | tuple[str, str], bool]:
        if isinstance(text, str):
            return cut_utf8(text, self._text_bytes_max)
        (first, cut_first), (second, cut_second) = (cut_utf8(one, self._text_bytes_max) for one in text)
        return (first, second), cut_first or cut_second


def _characters(text: str | tuple[str, str]) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def _second_of(type_ids: Sequence[int]) -> int | None:
    return type_ids.index(1) if 1 in type_ids else None


def _says_lower_case(folder: Path) -> bool:
    """Whether sentence-transformers puts texts into lower case first, whatever the tokeniser itself does."""
    path = folder / "sentence_bert_config.json"
    return path.exists() and json.loads(path.read_bytes()).get("do_lower_case") is True


def _said_unknown_token(folder: Path) -> str:
    """The text of the unknown token by the configuration, empty when it does not say."""
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return ""
    token = json.loads(path.read_bytes()).get("unk_token") or ""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _own_unknown_id(tokenizer: _Tokenizer, description: str) -> int | None:
    """The id that the tokeniser itself gives to what it does not know; None when its vocabulary knows every byte.
    `description` is its `tokenizer.json`."""
    if type(tokenizer.model).__name__ == "Unigram":  # the one whose unknown token the library does not tell
        number = json.loads(description)["model"].get("unk_id")
        return None if number is None else int(number)
    token = tokenizer.model.unk_token
    return tokenizer.token_to_id(token) if token else None
