"""Runs requests through a loaded model exactly as the worker does, without Kafka, and checks or records its answers."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from inference_workers.batching.compute import Row
from inference_workers.golden.compare import judge
from inference_workers.golden.samples import Golden, Sample, Tolerance
from inference_workers.models.servable import Servable
from inference_workers.ports import EngineError, Item, WrongShape
from inference_workers.tasks.inputs import Part, Refused, parts_of, prepare, texts_of
from inference_workers.tasks.outputs import Wanted, outputs_of
from schemas.deployments import GoldenResult
from schemas.predictions import Output
from schemas.requests import ImageReference, InferenceRequested

OUTPUTS: TypeAdapter[list[Output]] = TypeAdapter(list[Output])


def answer(servable: Servable, request: InferenceRequested) -> list[Output]:
    """The outputs of a request, all items of a ranking. Blocks. Raises Refused, EngineError or DeviceLost."""
    parts = [_there(part, servable) for part in parts_of(request, servable)]
    texts = texts_of(parts)
    tokenised = servable.tokeniser.tokenise(texts) if texts else []
    prepared = prepare(request, parts, tokenised, servable)
    rows = [_row(servable, one) if isinstance(one, Item) else one for one in prepared.parts]
    outputs, _ = outputs_of(Wanted(request.task, request.encoding_format), rows, servable)
    return OUTPUTS.validate_python(outputs)


def check_golden(servable: Servable, golden: Golden) -> tuple[GoldenResult, str]:
    """The verdict, and in words why it is no. A sample that cannot be computed is a no. Raises DeviceLost."""
    answers: list[Sequence[Output]] = []
    for number, sample in enumerate(golden.samples):
        try:
            answers.append(answer(servable, sample.request))
        except (Refused, EngineError) as error:
            result = GoldenResult(samples=len(golden.samples), passed=False, worst=0.0, tolerance=0.0)
            return result, f"sample {number} cannot be computed: {type(error).__name__}: {error}"
    return judge(golden, answers)


def record(servable: Servable, requests: Sequence[InferenceRequested], tolerance: Tolerance) -> Golden:
    """What the model answers now, as golden samples for its weights. Raises Refused, EngineError or DeviceLost."""
    return Golden(
        made_with=f"{servable.ref.name} {servable.ref.version} on {servable.device}"[:1_000],
        digest=servable.ref.digest or None,
        tolerance=tolerance,
        samples=[Sample(request=one, outputs=answer(servable, one)) for one in requests],
    )


def _there(part: Part, servable: Servable) -> Part:
    """A request's part, read where it is an image by name. Raises Refused."""
    if not isinstance(part, ImageReference):
        return part
    assert servable.read_image is not None  # `parts_of` refuses images of models without
    return servable.read_image(part)


def _row(servable: Servable, item: Item) -> Row:
    """One item in a forward pass of its own: what the model means, whatever a batch may do to it."""
    forward = servable.engine.compute([item])
    if len(forward.rows) != 1:
        raise WrongShape(f"{len(forward.rows)} results for one item")
    return Row(forward.rows[0], float(forward.norms[0]))
