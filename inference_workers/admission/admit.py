"""A record of the request topic becomes a request ready to be batched, or the reason why it cannot.

No I/O: images are read elsewhere, and their requests wait in `image_reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from inference_workers.admission.image_reading import ImageReading
from inference_workers.admission.requests import Admitted, Asked, Denied, Draft, Ready, Unusable, append_time_ms
from inference_workers.admission.scripts import joined, script_of_ascii, scripts_of
from inference_workers.batching.compute import Row
from inference_workers.batching.planner import Waiting
from inference_workers.deployments.routing import Route, RoutingTable
from inference_workers.models.servable import Servable
from inference_workers.ports import Item, Place
from inference_workers.tasks.inputs import OverLimit, Prepared, Refused, Text, parts_of, prepare, texts_of
from inference_workers.tasks.outputs import Wanted
from infra.ports import Clock, Record
from infra.progress import Receipt
from schemas.base import KEY_BYTES_MAX, DecodeError, Envelope, Reason, decode
from schemas.predictions import ModelRef
from schemas.requests import InferenceRequested

KINDS = (InferenceRequested,)
Lookup = Callable[[Servable, bytes], Row | None]
"""Finds a result that was computed before."""


@dataclass(slots=True)
class Admission:
    """Decodes, routes and tokenises records, many at once. `head_starts_ms` by scenario order the waiting."""

    table: RoutingTable
    clock: Clock
    images: ImageReading
    lookup: Lookup = lambda servable, content: None
    was_answered: Callable[[Receipt], bool] = lambda receipt: False
    """Whether it was answered before, in time: then it is answered again, however late it is by now."""
    head_starts_ms: Mapping[str, int] = field(default_factory=dict)
    request_tokens_max: int = 2**31
    on_shadow_refused: Callable[[Denied, ModelRef], None] = lambda one, model: None
    """Gets what a shadow's model cannot compute: nobody is told of it otherwise."""

    def admit(
        self, records: Sequence[tuple[Record, Receipt, Place]], *, shadows: bool = True, image_bytes_max: int = 2**40
    ) -> list[Admitted]:
        """One result for each record, in order, then those of shadows. Without `shadows` none are made.

        A record that names images has its result in a later call, when they are read; `image_bytes_max` bounds what
        is held of them until then, see `ImageReading.step`.
        """
        results: list[Admitted] = []
        places: list[tuple[int, Draft]] = []
        extra: list[Draft] = []
        for record, receipt, identity in records:
            try:
                envelope = _decoded(record)
            except DecodeError as error:
                results.append(Unusable(record, receipt, identity, error))
                continue
            route, beside = self.table.choose(envelope.data.scenario, record.key, str(identity))
            asked = self._asked(record, receipt, identity, envelope, route)
            draft = self._draft(asked, envelope.data, route, shadow=False)
            if isinstance(draft, Denied):
                results.append(draft)
                continue
            if draft.names_images():
                asked.input_bytes = _text_bytes(envelope.data)  # it may be refused before its texts are looked at
                self.images.add(draft)
            else:
                places.append((len(results), draft))
                results.append(Denied(asked, Refused("", "")))  # replaced below
            if shadows:
                extra += self._shadows(asked, envelope.data, beside)
        extra += self.images.step(self.clock.now_ms(), image_bytes_max)
        drafts = [*(draft for _, draft in places), *extra]
        self._tokenise([draft for draft in drafts if draft.refusal is None])
        now_ms = self.clock.now_ms()
        for place, draft in places:
            results[place] = self._finish(draft, now_ms)
        for draft in extra:
            one = self._finish(draft, now_ms)
            if isinstance(one, Ready) or not draft.shadow:
                results.append(one)
            else:
                self.on_shadow_refused(one, draft.route.ref)
        return results

    def _shadows(self, asked: Asked, request: InferenceRequested, beside: Sequence[Route]) -> list[Draft]:
        """Drafts for those routes that can compute it, without those that wait for images."""
        found = []
        for route in beside:
            draft = self._draft(asked, request, route, shadow=True)
            if isinstance(draft, Denied):
                self.on_shadow_refused(draft, route.ref)
            elif draft.names_images():
                self.images.add(draft)
            else:
                found.append(draft)
        return found

    def _asked(
        self, record: Record, receipt: Receipt, identity: Place, envelope: Envelope[InferenceRequested], route: Route
    ) -> Asked:
        request = envelope.data
        appended_ms = append_time_ms(record, self.clock.now_ms())
        timeout_ms = None if self.was_answered(receipt) else request.timeout_ms
        return Asked(
            receipt=receipt,
            identity=identity,
            key=record.key,
            appended_ms=appended_ms,
            scenario=request.scenario,
            wanted=Wanted(request.task, request.encoding_format, request.top_n),
            request_id=envelope.event_id or "",
            traceparent=envelope.traceparent,
            route=route,
            deadline_ms=None if timeout_ms is None else appended_ms + timeout_ms,
            inputs=len(request.inputs),
        )

    def _draft(self, asked: Asked, request: InferenceRequested, route: Route, *, shadow: bool) -> Draft | Denied:
        try:
            return Draft(asked, request, route, parts_of(request, route.servable), shadow)
        except Refused as refusal:
            asked.input_bytes = _text_bytes(request)
            return Denied(asked, refusal)

    def _tokenise(self, drafts: Sequence[Draft]) -> None:
        """One call for all texts of a model. A text's share of the time is even: they cannot be told apart."""
        by_servable: dict[Servable, list[Draft]] = {}
        for draft in drafts:
            by_servable.setdefault(draft.route.servable, []).append(draft)
        for servable, mine in by_servable.items():
            texts = [texts_of(draft.parts) for draft in mine]
            flat = [text for some in texts for text in some]
            measure(mine, texts)
            start = self.clock.monotonic()
            try:
                tokenised = iter(servable.tokeniser.tokenise(flat) if flat else ())
            except Exception:  # the library raises bare ones; which text it was shows each alone
                self._tokenise_each(servable, mine, texts)
                continue
            each_ms = (self.clock.monotonic() - start) * 1000 / max(1, len(flat))
            for draft, some in zip(mine, texts, strict=True):
                draft.tokenised = [next(tokenised) for _ in some]
                draft.tokenise_ms = each_ms * len(some)

    def _tokenise_each(self, servable: Servable, drafts: Sequence[Draft], texts: Sequence[list[Text]]) -> None:
        for draft, some in zip(drafts, texts, strict=True):
            try:
                draft.tokenised = servable.tokeniser.tokenise(some) if some else []
            except Exception as error:
                draft.refusal = Refused("tokenise_error", f"{type(error).__name__}: {str(error)[:500]}")

    def _finish(self, draft: Draft, now_ms: int) -> Ready | Denied:
        asked, route = draft.asked, draft.route
        try:
            if draft.refusal is not None:
                raise draft.refusal
            prepared = prepare(draft.request, draft.parts, draft.tokenised, route.servable)
            cost = sum(part.cost for part in prepared.parts if isinstance(part, Item))
            if cost > self.request_tokens_max:
                raise OverLimit(f"{cost} tokens, at most {self.request_tokens_max} are taken of a request")
        except Refused as refusal:
            return Denied(asked, refusal, draft.reading_ms)
        parts, cached = self._known(prepared, route.servable)
        costs = tuple(part.cost for part in parts if isinstance(part, Item))
        head_start_ms = self.head_starts_ms.get(asked.scenario, 0)
        return Ready(
            asked=asked,
            route=route,
            parts=parts,
            tokens=prepared.tokens,
            unknown_share=prepared.unknown / max(1, prepared.tokens),
            truncated=prepared.truncated,
            cached=cached,
            tokenise_ms=draft.tokenise_ms + draft.reading_ms,
            waiting=Waiting(costs or (0,), now_ms, asked.deadline_ms, now_ms - head_start_ms),
            size=_size(asked, parts),
            shadow=draft.shadow,
            script=draft.script,
            reading_ms=draft.reading_ms,
        )

    def _known(self, prepared: Prepared, servable: Servable) -> tuple[list[Item | Row], int]:
        """The parts, with rows for those items that the cache holds, and how many that are."""
        cached = 0
        parts: list[Item | Row] = []
        for part in prepared.parts:
            row = self.lookup(servable, part.content) if isinstance(part, Item) else None
            cached += row is not None
            parts.append(part if row is None else row)
        return parts, cached


def _decoded(record: Record) -> Envelope[InferenceRequested]:
    key_bytes = len(record.key or b"")
    if key_bytes > KEY_BYTES_MAX:
        raise DecodeError(Reason.TOO_LARGE, f"a key of {key_bytes} bytes, at most {KEY_BYTES_MAX} are taken")
    return decode(record.headers, record.value, KINDS, plain=InferenceRequested)


def measure(drafts: Sequence[Draft], texts: Sequence[Sequence[Text]]) -> None:
    """Find out what only telemetry tells of requests' texts: how many bytes, in which writing system."""
    others: list[tuple[Draft, Sequence[Text]]] = []
    for draft, some in zip(drafts, texts, strict=True):
        text = some[0] if len(some) == 1 else None
        if isinstance(text, str) and text.isascii():  # nearly always, and then it is quick
            draft.asked.input_bytes, draft.script = len(text), script_of_ascii(text)
        else:
            others.append((draft, some))
    for (draft, _), draft.script in zip(others, scripts_of([joined(some) for _, some in others]), strict=True):
        draft.asked.input_bytes = _text_bytes(draft.request)


def _text_bytes(request: InferenceRequested) -> int:
    total = 0
    for one in request.inputs if request.query is None else (request.query, *request.inputs):
        for text in (one,) if isinstance(one, str) else (one.text, one.text_pair):
            if text is not None:
                total += len(text) if text.isascii() else len(text.encode())
    return total


def _size(asked: Asked, parts: Sequence[Item | Row]) -> int:
    size = 700 + len(asked.key or b"")
    for part in parts:
        if isinstance(part, Row):
            size += 200 + part.value.nbytes if hasattr(part.value, "nbytes") else 4_096
        else:
            size += 200 + 40 * len(part.ids) + (0 if part.pixels is None else part.pixels.nbytes)
    return size
