"""The outputs of an answer in words, for the terminal. Pure."""

from __future__ import annotations

from schemas.base import DecodeError
from schemas.predictions import Classification, Embedding, EmbeddingNumbers, Generated, InferenceAnswered, Output
from schemas.vectors import decode_vector

FIRST_NUMBERS = 6
LABELS_SHOWN = 5


def output_lines(answer: InferenceAnswered) -> list[str]:
    """One line for each output: its name in nine columns, then what it is."""
    if answer.task == "rerank":
        return [_line(output, f"rank {place}") for place, output in enumerate(answer.outputs, start=1)]
    return [_line(output, "") for output in answer.outputs]


def outputs_in_short(answer: InferenceAnswered) -> str:
    """The outputs in a few words, such as `1 x 384`."""
    first, count = answer.outputs[0], len(answer.outputs)
    if isinstance(first, Embedding):
        return f"{count} x {first.dimension}"
    if isinstance(first, EmbeddingNumbers):
        return f"{count} x {len(first.numbers)}"
    if isinstance(first, Classification):
        best = first.labels[0]
        return f"{best.label} {best.probability:.3f}" + (f" and {count - 1} more" if count > 1 else "")
    if isinstance(first, Generated):
        return f"{sum(one.tokens for one in answer.outputs if isinstance(one, Generated))} tokens"
    return f"{count} ranked, first {first.index} ({first.score:.3f})"


def _line(output: Output, rank: str) -> str:
    if isinstance(output, Embedding):
        try:
            return _numbers(list(decode_vector(output.vector)[:FIRST_NUMBERS]), output.dimension)
        except DecodeError as error:
            return f"vector   {error}"
    if isinstance(output, EmbeddingNumbers):
        return _numbers(output.numbers[:FIRST_NUMBERS], len(output.numbers))
    if isinstance(output, Classification):
        shown = ", ".join(f"{one.label} {one.probability:.4f}" for one in output.labels[:LABELS_SHOWN])
        return f"labels   {shown}" + (", ..." if len(output.labels) > LABELS_SHOWN else "")
    if isinstance(output, Generated):
        return f"text     {output.text} ({output.tokens} tokens, {output.finish_reason})"
    return f"{rank:<8} item {output.index}, score {output.score:.4f}"


def _numbers(first: list[float], count: int) -> str:
    return f"vector   {count} numbers: {', '.join(f'{number:.4f}' for number in first)}, ..."
