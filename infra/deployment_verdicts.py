"""What became of a deployment, as the workers' events on `model.events` tell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infra.ports import Record
from schemas.base import DecodeError, decode
from schemas.deployments import MODEL_EVENT_KINDS, Arm, DeploymentChanged, ModelJudged, Verdict


def judgements(records: Iterable[Record]) -> list[ModelJudged]:
    """The events of records; those that cannot be read are passed over."""
    found = []
    for record in records:
        try:
            found.append(decode(record.headers, record.value, MODEL_EVENT_KINDS).data)
        except DecodeError:
            continue
    return found


def verdict_of(events: Iterable[ModelJudged], scenario: str, arms: Sequence[Arm]) -> ModelJudged | None:
    """The event that settles a deployment: a refusal of one of its models, or the last of them being ready."""
    wanted = {(arm.model_name, arm.version) for arm in arms}
    ready: dict[str, set[tuple[str, str]]] = {}
    for one in events:
        model = one.model.name, one.model.version
        if scenario not in one.scenarios or model not in wanted:
            continue
        if one.verdict is Verdict.REFUSED:
            return one
        if one.verdict is Verdict.READY:
            mine = ready.setdefault(one.worker_id, set())
            mine.add(model)
            if mine == wanted:
                return one
    return None


def arms_running(now: DeploymentChanged, events: Sequence[ModelJudged]) -> list[Arm]:
    """What answers the scenario, as far as the events since `now` was asked for tell: its arms; those before it where a
    worker refused it and none has all of its models ready."""
    ready = [one for one in events if one.verdict is Verdict.READY]
    if verdict_of(ready, now.scenario, now.arms) is None and verdict_of(events, now.scenario, now.arms) is not None:
        return now.previous
    return now.arms
