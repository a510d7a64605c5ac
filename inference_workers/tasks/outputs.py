"""From a request's results to the outputs of its answer, by task. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference_workers.batching.compute import Row
from inference_workers.models.servable import Servable
from inference_workers.ports import Head, Similarity, WrongShape
from inference_workers.tasks.classify import classification_of, probabilities_of
from inference_workers.tasks.embed import embeddings_of
from inference_workers.tasks.generate import generated_of
from inference_workers.tasks.rerank import probability_of, ranking_of, ranking_statistics, similarities
from inference_workers.tasks.statistics import NONE, Statistics, mean_of, statistics_of
from schemas.requests import EncodingFormat, Task


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a request decides the shape of its answer."""

    task: Task
    encoding_format: EncodingFormat = "base64"
    top_n: int | None = None


def outputs_of(wanted: Wanted, rows: Sequence[Row], servable: Servable) -> tuple[list[dict[str, Any]], Statistics]:
    """The outputs, as `schemas.predictions` has them, and how sure they are. For `rerank` with vectors, the first row
    is the query's.

    Raises EngineError for rows that do not go together.
    """
    if wanted.task == "embed":
        return [*embeddings_of([row.value for row in rows], wanted.encoding_format)], NONE
    if wanted.task == "rerank":
        scores = _scores(rows, servable)
        # A dot product or a distance says which item fits best, and nothing of how well: it has no largest value.
        statistics = ranking_statistics(scores) if servable.similarity is Similarity.COSINE else NONE
        return [*ranking_of(scores, wanted.top_n)], statistics
    if wanted.task == "classify":
        wrong = {len(row.value) for row in rows} - {len(servable.labels)}
        if wrong:
            raise WrongShape(f"{min(wrong)} logits for {len(servable.labels)} labels")
        each = [probabilities_of(row.value, multi_label=servable.multi_label) for row in rows]
        statistics = mean_of([statistics_of(one) for one in each])
        return [classification_of(one, servable.labels) for one in each], statistics
    sure = [Statistics(confidence=min(1.0, max(0.0, row.value.probability))) for row in rows]
    return [generated_of(row.value, servable.tokeniser) for row in rows], mean_of(sure)


def _scores(rows: Sequence[Row], servable: Servable) -> list[float]:
    if servable.engine.head is Head.VECTORS:
        return similarities(rows[0].value, [row.value for row in rows[1:]], servable.similarity)
    return [probability_of(float(row.value[0])) for row in rows]
