"""The closed list of kinds of anomalies: what triggers each, what it reads, when it keeps quiet, what to do first.

The one place that says so: the metrics that stage 2 scores and the page `docs/kinds.md` are made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.anomalies import AnomalyKind
from stream_jobs import window_triggers
from stream_jobs.scored_metric import Metric
from stream_jobs.settings import JobSettings


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind, in words for people. `metric` makes what stage 2 scores; None where windows do not show it."""

    kind: AnomalyKind
    trigger: str
    series: str
    reads: tuple[str, ...]
    """Columns of `windows`, or inputs of the function that is named in `trigger`."""
    direction: str
    policy: str
    quiet: str
    first: tuple[str, ...]
    """What an operator does, in order."""
    metric: Callable[[JobSettings], Metric] | None = None
    beside: tuple[Callable[[JobSettings], Metric], ...] = ()
    """What is scored, too, and opens no incident."""


_SERIES = "scenario, model and version"
_RARE = (
    "`rare_rise`: the usual value is a mean with a memory of `scale_seconds` that begins at 0. The rise must be "
    "{least}, twice the usual value, and five cases in the window. {windows} windows in a row open an alert, "
    "one that is "
    "nine times beyond opens it at once."
)
_DRIFT = (
    "`histogram_drift`: the version's first `reference_windows` windows (with at least 2,000 requests) are "
    "frozen as its "
    "reference. Every two minutes with 300 requests the population stability index against it, less what chance makes "
    "of it, must be `drift_psi_min` and twice the usual above the usual; Cliff's delta must be 0.15, and a "
    "Kolmogorov-Smirnov test at one in a million must agree. Where bins are names (writing systems, directions), 0.15 "
    "of the requests must have moved to other bins, and a chi-squared test must agree. Two such in a row open an "
    "alert. The event carries in `effects` each histogram's index (`_psi`) and its delta (`_delta`) or the share that "
    "moved (`_moved`)."
)

KINDS: tuple[Kind, ...] = (
    Kind(
        AnomalyKind.LATENCY_SHIFT,
        "The 95 % quantile of latency, of answers for which something was computed, leaves its band upwards.",
        _SERIES,
        ("total_ms_p95", "total_ms_p50", "answered", "uncomputed"),
        "up",
        "`forecast_residual` as trigger: a slow level and its usual deviation; the rise must be `latency_ms_min` and "
        "`latency_share_min` of the level. `open_windows` windows in a row in which the median is as slow as the "
        "slowest usually are: a fact. Without that `tail_windows` in a row, the first of them scored among the most "
        "unusual 1 in 100 of the series' own past by `detector` (once it has learnt 200), and the alert budget.",
        "In a series' first `learning_windows` windows, in windows with fewer than `requests_min` computed answers, "
        "and just after a gap.",
        (
            "Read the alert's summary: it says which cause explains how much of the rise of the mean, and "
            "`latency_causes` has the parts window by window.",
            "Compare `queue_ms_p95` with `compute_ms_p95`: a queue needs workers, compute a look at the model.",
            "Look at `batch_size`, `padding_share` and `cached` of the requests before and after the onset.",
            "Look at what was deployed just before the onset.",
        ),
        window_triggers.latency_shift,
        (window_triggers.latency_residual,),
    ),
    Kind(
        AnomalyKind.ERROR_BURST,
        "The share of failed requests leaves its band upwards.",
        _SERIES,
        ("error_share", "requests"),
        "up",
        "`forecast_residual` as trigger; `detector` scores it too. `open_windows` windows in a row, or one that is "
        "nine times beyond: a fact. The rise must be `error_share_min` and as much as the level.",
        "In the first `learning_windows` windows and in windows with fewer than `requests_min` requests. Shed requests "
        "and dead letters are no errors here.",
        (
            "Group `requests` by `error` and `fingerprint`: one fingerprint is one fault.",
            "Look whether one worker or one version has them all.",
        ),
        window_triggers.error_burst,
    ),
    Kind(
        AnomalyKind.THROUGHPUT_DROP,
        "Requests a second fall below their band.",
        _SERIES,
        ("requests_per_second",),
        "down",
        "`forecast_residual` as trigger: the fall must be `rate_min` and `rate_share_min` of the level. `open_windows` "
        "and two more windows in a row. That nothing is left is a fact; else the first of them must be among the most "
        "unusual 1 in 100 of the series' own past for `detector` (once it has learnt 200), and the alert budget lets "
        "it through. A window without the series counts as none. What is usual for a version moves with its requests "
        "([why](decisions/0018-moved-requests.md)): where others of its scenario and model have at least half of what "
        "is missing at it more than usual, in the same window, each is expected its present share of what was usual "
        "for all together, and the detector learns their rates anew.",
        "In the first `learning_windows` windows, in windows that are not complete, and once the series has had no "
        "requests for `idle_seconds`; and when its requests moved to another version. Moves of less than `rate_min`, "
        "or 15 % of all versions' requests, are learnt as they come; where such a one leaves a version's band, seven "
        "tenths must be found at the others.",
        (
            "Look whether less is asked (the request topic grows more slowly) or less is answered (its lag grows).",
            "If less is asked, ask the callers. If less is answered, look at stall and lag.",
        ),
        window_triggers.throughput_drop,
    ),
    Kind(
        AnomalyKind.TIMEOUT,
        "The share of requests without an answer in time rises: shed as expired or at a deadline, or failed with a "
        "timeout.",
        _SERIES,
        ("timeout_share", "timed_out", "requests"),
        "up",
        _RARE.format(least="`timeout_share_min`", windows="`open_windows`"),
        "In the first `learning_windows` windows and in windows with fewer than `requests_min` requests.",
        (
            "Look at `queue_ms_p95`: requests that wait too long need workers or a limit at the door.",
            "Look whether callers' deadlines became shorter.",
        ),
        window_triggers.timeout,
    ),
    Kind(
        AnomalyKind.OOM,
        "Requests fail because memory ran out. A batch that was split and then went through is none.",
        _SERIES,
        ("out_of_memory",),
        "up",
        "`rare_rise`, counted: `oom_min` in a window and twice the usual. `open_windows` windows in a row "
        "open an alert; "
        "with the defaults five in one window open it at once.",
        "Never: also a series' first window counts ([why](decisions/0025-no-learning-for-memory.md)).",
        (
            "Find the requests: `tokens` and `inputs` of those with `error = 'out_of_memory'`.",
            "Lower the worker's limit of tokens, or give it more memory.",
            "Look whether another process took the device's memory.",
        ),
        window_triggers.oom,
    ),
    Kind(
        AnomalyKind.MEMORY_LEAK,
        "The workers' memory grows steadily for two hours or more.",
        _SERIES,
        ("memory_bytes_max",),
        "up",
        "`memory_trend`: the lowest value of each ten minutes, of the last two to four hours. Theil and Sen's "
        "slope must "
        "come to 128 MiB and `leak_share_min` of the level over that time, Kendall's tau to 0.8, and each third must "
        "have grown, the last at least half as much as the one before. Two judgements in a row, ten minutes "
        "apart, open an alert. The metric is the slope, "
        "`memory_bytes_per_hour`; the level does not matter.",
        "For the first two hours of a series, and for two hours after a fall by 30 %, which is a new process.",
        (
            "Restart the worker before it ends by itself; note how long it ran.",
            "Compare with the number of distinct models and of cached inputs: a cache without a bound looks like this.",
        ),
        window_triggers.memory_leak,
    ),
    Kind(
        AnomalyKind.SCORE_DRIFT,
        "Answers are otherwise sure of themselves than the version's first ones, or their vectors are otherwise long "
        "or point elsewhere.",
        _SERIES,
        ("confidence_bins", "norm_bins", "direction_bins"),
        "both",
        _DRIFT,
        "Until the reference is frozen, and where a task has neither confidence nor norms. A new version begins anew: "
        "the change of version itself is no drift. Directions of a version whose reference was frozen before workers "
        "told them. A drift of embeddings inside one of the 16 parts of space.",
        (
            "See whether the inputs drifted too: then the model answers other questions.",
            "If they did not, compare the weights' digest and the number type with the version's first day.",
        ),
        window_triggers.score_drift,
    ),
    Kind(
        AnomalyKind.INPUT_DRIFT,
        "Inputs are otherwise long than the version's first ones, hold otherwise many unknown tokens, are cut into "
        "otherwise many tokens a byte, or are written in other writing systems: another language, mostly.",
        _SERIES,
        ("token_bins", "unknown_bins", "fertility_bins", "script_bins"),
        "both",
        _DRIFT,
        "Until the reference is frozen. A change inside one bin (an octave of tokens, a quarter of one of tokens a "
        "byte) is not seen, nor are tokens a byte and writing systems of a version whose reference was frozen without "
        "them. Tokens a byte are of requests with one input that was not truncated; languages that the vocabulary cuts "
        "alike are not told apart ([measured](decisions/0027-languages-by-tokens-a-byte.md)).",
        (
            "Read the alert's summary: it says what moved most, and which way.",
            "Look at some requests from after the onset: another client, another language, another template.",
            "Decide whether the model was made for them; if so, deploy it as a new version to begin anew.",
        ),
        window_triggers.input_drift,
    ),
    Kind(
        AnomalyKind.EMPTY_RESULT,
        "The share of answers with nothing in them rises: output norm and confidence are both 0.",
        _SERIES,
        ("empty_share", "empty", "answered"),
        "up",
        _RARE.format(least="`empty_share_min`", windows="`open_windows`"),
        "In the first `learning_windows` windows, in windows with fewer than `requests_min` answers, and for workers "
        "that do not tell how sure an answer is (telemetry 1.0).",
        (
            "Ask the same again with `inferwatch ask` and look at the answer.",
            "Look whether the inputs are empty or unknown (`tokens`, `unknown_share`).",
        ),
        window_triggers.empty_result,
    ),
    Kind(
        AnomalyKind.DUPLICATE,
        "The share of requests that were answered again rises: an outcome for an offset that had one, or an id that "
        "another request of the same telemetry event has.",
        _SERIES,
        ("repeated_share", "repeated", "requests"),
        "up",
        "`rare_rise`: the rise must be `repeated_share_min`, twice the usual value, and five cases. "
        "`open_windows` and two more "
        "windows in a row: what a worker that ended had in work is answered again, once.",
        "In the first `learning_windows` windows and in windows in which fewer than `requests_min` outcomes "
        "were told. An "
        "id that comes again later than a telemetry event lasts (half a second) is not seen.",
        (
            "Look whether workers end and start again, or the group rebalances all the time.",
            "Look whether a producer sends again what it has an answer to.",
        ),
        window_triggers.duplicate,
    ),
    Kind(
        AnomalyKind.SCHEMA_BREAK,
        "The share of records that are not what the topic carries rises: dead letters for their form, not for their "
        "size or for asking what is not offered.",
        "the one without labels: what could not be read has none",
        ("schema_share", "schema_broken"),
        "up",
        _RARE.format(least="`schema_share_min`", windows="`open_windows`")
        + " The share is of all requests of the partitions that had such records.",
        "In the first `learning_windows` windows with dead letters, in windows that are not complete, and where those "
        "partitions had fewer than `requests_min` requests.",
        (
            "Read some of the dead letters: `inferwatch.reason` says what is wrong, `ce_source` who sent it.",
            "Look which producer was deployed just before the onset.",
        ),
        window_triggers.schema_break,
    ),
    Kind(
        AnomalyKind.STALL,
        "Requests are owed and nothing is computed for any (`ledger_triggers.stall`), whatever the worker's health "
        "port says. The ledger (`inferwatch jobs ledger`) tells it from Kafka alone.",
        "scenario; model and version are empty, because nobody answered",
        ("owed", "age of the oldest", "time since the last computed answer"),
        "up",
        "A limit: `stall_windows` in which something was owed and its worker computed nothing. It is looked at "
        "four times a window and opens at once, so that it is told within two. Where the others are late and have "
        "begun to answer one of its partitions, they count from there, for the group has dealt them out anew; within "
        "three windows in any case. Shed requests, cache hits and dead letters are no sign of life.",
        "While nothing is owed. Time in which the ledger was not heard, or Kafka was away, does not count. A new "
        "ledger begins to count when it begins.",
        (
            "The alert's summary names the worker and the partitions: look at its log, and whether it runs.",
            "End it: another takes its partitions over, and nothing is lost. `inferwatch books` shows what is owed.",
            "If no worker is named, none was ever there: look at the group's members.",
        ),
    ),
    Kind(
        AnomalyKind.LAG,
        "The oldest request waits too long, although outcomes come (`ledger_triggers.lag`), told by the ledger.",
        "scenario; model and version are empty",
        ("owed", "age of the oldest", "time since the last computed answer"),
        "up",
        "A limit: `lag_windows` with at least `lag_owed_min` requests owed, at `open_windows` looks in a row, four a "
        "window.",
        "While nothing comes: that is a stall. With fewer than `lag_owed_min` owed: those are single requests.",
        (
            "Add workers: the worker's health port says how many and why.",
            "Look for a single partition that has it all: a hot key. `inferwatch books` shows them one by one.",
        ),
    ),
    Kind(
        AnomalyKind.QUALITY_DROP,
        "The share of good answers has surely fallen (`outcome_triggers.quality_drop`).",
        _SERIES,
        ("judged answers", "good ones among them", "the same before"),
        "down",
        "The cautious end of Newcombe's 99 % interval of the fall must be 0.05. It needs feedback, which is not there "
        "yet; the function is there and tested.",
        "With fewer than 50 judged answers, now or before.",
        (
            "Compare the versions: a fall with a new one is a reason to go back.",
            "See whether inputs or scores drifted at the same time.",
        ),
    ),
    Kind(
        AnomalyKind.COST,
        "A unit of work costs more than usual (`outcome_triggers.cost`).",
        _SERIES,
        ("amount spent", "units of work", "the same before"),
        "up",
        "A rise by half. It needs prices, which are not there yet; the function is there and tested.",
        "With fewer than 1,000 units: an idle device costs the same.",
        (
            "Look at `padding_share` and batch sizes: half-empty batches cost as much as full ones.",
            "Look whether more workers run than are needed.",
        ),
    ),
    Kind(
        AnomalyKind.SECURITY,
        "A client is refused much more than it usually is, or for many different reasons "
        "(`outcome_triggers.security`).",
        "the client",
        ("requests", "refused", "different reasons", "usual share", "whether it is known"),
        "up",
        "Twenty refusals and a share of 0.2 above its usual, or 5 different reasons in one window; half of that for a "
        "client that nobody knows. It needs principals, which are not there yet; the function is there and tested.",
        "For clients that are always refused alike.",
        (
            "Find out who the client is, and whether its key is where it should be.",
            "Limit it at the door before you look further.",
        ),
    ),
)
