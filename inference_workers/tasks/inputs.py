"""What a request asks a model to compute: its inputs by task as texts to tokenise, images and ready-made vectors."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference_workers.batching.compute import Row
from inference_workers.models.servable import Servable
from inference_workers.models.tokenise import Tokenised
from inference_workers.ports import Head, Item, Sampling, Similarity
from schemas.base import DecodeError
from schemas.requests import ImageReference, InferenceRequested, Input, TypedInput
from schemas.vectors import decode_vector

CONTENT_BYTES_MAX = 64
"""A longer content is replaced by its hash."""
Text = str | tuple[str, str]
Part = Text | ImageReference | Item | Row
"""An input before tokenising: a text or pair, an image by name or read, or a vector that is there already."""


class Refused(Exception):
    """A request that is well-formed and cannot be computed here: `code` for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Shed(Refused):
    """A request that could have been computed, and is not: it is shed, and not failed."""


class OverLimit(Shed):
    """A request that asks for more than is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__("over_limit", message)


class Expired(Shed):
    """A request whose deadline passed `late_ms` milliseconds ago, before `what`."""

    def __init__(self, late_ms: int, what: str) -> None:
        super().__init__("expired", f"its deadline passed {late_ms} ms before {what}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's parts, tokenised: items to compute, and rows where nothing is."""

    parts: list[Item | Row]
    tokens: int
    unknown: int
    truncated: bool


def parts_of(request: InferenceRequested, servable: Servable) -> list[Part]:
    """What the model is to see, in the order that `tasks.outputs` expects. Raises Refused."""
    name = servable.ref.name
    if request.task not in servable.tasks:
        can = ", ".join(sorted(servable.tasks))
        raise Refused("unsupported_task", f"{name} does not {request.task}: it can {can}")
    if request.task == "rerank" and servable.engine.head is Head.LOGITS:
        query = _only_text(request.query, "query")
        return [(query, _only_text(one, "an item")) for one in request.inputs]
    inputs = request.inputs
    if request.query is not None:
        inputs = [request.query, *inputs]
    return [one if isinstance(one, str) else _typed(one, request, servable) for one in inputs]


def texts_of(parts: Sequence[Part]) -> list[Text]:
    """Those parts that are to be tokenised, in order."""
    return [part for part in parts if isinstance(part, str | tuple)]


def prepare(
    request: InferenceRequested, parts: Sequence[Part], tokenised: Sequence[Tokenised], servable: Servable
) -> Prepared:
    """The parts with their texts tokenised (one `Tokenised` for each of `texts_of`). Raises OverLimit."""
    sampling = _sampling(request)
    ready: list[Item | Row] = []
    tokens = unknown = 0
    truncated = False
    texts = iter(tokenised)
    for part in parts:
        if isinstance(part, str | tuple):
            one = next(texts)
            unknown += one.unknown
            truncated = truncated or one.truncated
            tokens += len(one.ids)
            ready.append(_item(one, sampling, servable))
        else:
            assert not isinstance(part, ImageReference)  # images are read before texts are tokenised
            tokens += part.cost if isinstance(part, Item) else 0
            ready.append(part)
    return Prepared(ready, tokens, unknown, truncated)


def _item(one: Tokenised, sampling: Sampling | None, servable: Servable) -> Item:
    ids = one.ids
    content = array("i", ids).tobytes()
    cost = len(ids)
    if one.second is not None:
        content += b"|%d" % one.second
    if sampling is not None:
        cost += sampling.max_tokens
        if cost > servable.tokens_max:
            raise OverLimit(
                f"a prompt of {len(ids)} tokens and max_tokens {sampling.max_tokens} are more than the "
                f"{servable.tokens_max} tokens of {servable.ref.name}"
            )
        content += b"|%d|%r|%d" % (sampling.max_tokens, sampling.temperature, sampling.seed)
    if len(content) > CONTENT_BYTES_MAX:
        content = hashlib.blake2b(content, digest_size=16).digest()
    return Item(ids, content, one.second, None, sampling, cost or 1)


def _typed(one: TypedInput, request: InferenceRequested, servable: Servable) -> Part:
    if one.text is not None:
        if one.text_pair is None:
            return one.text
        if request.task != "classify":
            raise Refused("unsupported_input", f"a text pair is for classify, not for {request.task}")
        return (one.text, one.text_pair) if one.text_pair else one.text  # so does Transformers' text-classification
    if request.task not in ("embed", "rerank"):
        kind = "an image" if one.embedding is None else "an embedding"
        raise Refused("unsupported_input", f"{kind} is for embed and rerank, not for {request.task}")
    if one.embedding is not None:
        # Where more than the direction is compared, a vector that the model gave before must keep its length.
        as_given = request.task == "rerank" and servable.similarity is not Similarity.COSINE
        return _given(one.embedding, as_given=as_given)
    assert one.image is not None  # one of the three is there: the schema says so
    if not servable.images:
        raise Refused("unsupported_input", f"{servable.ref.name} reads no images")
    if servable.read_image is None:
        raise Refused("images_not_served", f"{one.image.name[:200]!r}: this worker has no image folder")
    return one.image


def _given(embedding: str | list[float], *, as_given: bool) -> Row:
    """A ready-made vector, normalised to length 1 or as it is; its own length as the norm. Raises Refused."""
    try:
        numbers = decode_vector(embedding) if isinstance(embedding, str) else embedding
    except DecodeError as error:
        raise Refused("bad_embedding", error.detail) from None
    with np.errstate(over="ignore"):
        vector = np.array(numbers, dtype=np.float32)
    if not len(vector) or not np.isfinite(vector).all():
        raise Refused("bad_embedding", "the vector is empty or holds NaN or infinity as float32")
    norm = math.sqrt(float(np.square(vector.astype(np.float64)).sum()))
    if as_given:
        return Row(vector, norm)
    wide = vector.astype(np.float64)
    return Row((wide / norm if norm > 0 else wide).astype(np.float32), norm)


def _only_text(one: Input | None, what: str) -> str:
    if isinstance(one, str):
        return one
    if one is None or one.text is None or one.text_pair is not None:
        raise Refused("unsupported_input", f"a cross-encoder ranks texts: {what} is none")
    return one.text


def _sampling(request: InferenceRequested) -> Sampling | None:
    if request.task != "generate":
        return None
    wanted = request.generation
    if wanted is None:
        return Sampling(max_tokens=64)
    return Sampling(wanted.max_tokens, wanted.temperature, wanted.seed)
