"""The page of metrics, made from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from infra.meters import Catalogue, Description, Kind

INTRODUCTION = (
    "Every process serves them on `/metrics` of its health port, in the Prometheus text format or, by the `Accept`",
    "header, as OpenMetrics; the same port has `/health/live` and `/health/ready`. The port is set with",
    "`INFERWATCH_WORKER_METRICS_PORT` for workers and `--metrics-port` for jobs, the address with",
    "`INFERWATCH_HEALTH_ADDRESS`. Beside these stand the `process_*` metrics of the Prometheus client library.",
    "",
    "Durations are in seconds, sizes in bytes, ratios from 0 to 1. Histograms can be added up over workers.",
    "The latency of what a model computed, without the cache's hits, which would make it look faster than it is:",
    '`histogram_quantile(0.99, sum by (le) (rate(inferwatch_request_duration_seconds_bucket{computed="true"}[5m])))`.',
    "Label values are bounded: what is more than a worker counts apart is counted under `other`.",
)


def metrics_page(catalogue: Catalogue, note: str) -> str:
    """The catalogue as a Markdown page. `note` says that it is generated."""
    lines = ["# Metrics", "", f"{note} The source is `infra/metrics.py`.", "", *INTRODUCTION, ""]
    about = [one.description for one in catalogue.families]
    for part in dict.fromkeys(one.part for one in about):
        lines += [f"## Of {part}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(one) for one in about if one.part == part]
        lines.append("")
    lines += ["## Buckets", "", "Upper bounds; each histogram has `+Inf` too.", ""]
    groups: dict[tuple[float, ...], list[str]] = {}
    for one in about:
        if one.kind is Kind.HISTOGRAM:
            groups.setdefault(one.buckets, []).append(one.name)
    lines += [f"* {_numbers(buckets)}: {', '.join(f'`{name}`' for name in names)}" for buckets, names in groups.items()]
    return "\n".join([*lines, ""])


def _row(one: Description) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "none"
    return f"| `{one.name}` | {one.kind.value} | {labels} | {one.help} |"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
