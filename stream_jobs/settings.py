"""Settings of the stream jobs (`INFERWATCH_JOBS_*`)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from infra.settings import PREFIX, Settings
from stream_jobs.alert_budget import DEFAULT_A_WEEK
from stream_jobs.detectors import registry

WAITING_WINDOWS_MAX = 1_000
"""Windows that may wait for lagging partitions: the list of their state pages must fit one record."""

SERIES_MAX = 100_000
"""Most series that can be asked for: the list of their state pages must fit one record beside those of the windows. So
many take a core half a minute a window, and 3 GB once all is known of them; a window with more would be closed early.
"""


class JobSettings(Settings):
    """How the score job cuts windows, learns and alerts. Durations are in seconds, of the telemetry log's time."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "JOBS_", frozen=True, extra="ignore", env_ignore_empty=True)

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._\-]{1,200}$")] = Field(
        default="stream-jobs-score", description="Consumer group of the score job."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port of health and Prometheus metrics, unless `--metrics-port` says otherwise; 0: none."
    )
    window_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=10.0, description="Length of a window, 1 to 3600 seconds. Shorter: sooner alerts over fewer requests."
    )
    barrier_interval_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        default=10.0,
        description="Time between snapshots with commit, seconds; up to six times as long, a minute at most, where "
        "they would take more than 4 % of the job's processor time. Longer: fewer writes, longer replay.",
    )
    row_flush_seconds: Annotated[float, Field(ge=0.05, le=60)] = Field(
        default=1.0, description="Longest time that a row waits before it is stored, seconds."
    )
    tick_seconds: Annotated[float, Field(ge=0.1, le=60)] = Field(
        default=1.0, description="A telemetry partition silent for so long gets a tick and its windows close, seconds."
    )
    allowed_lateness_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60.0, description="A window waits so long for lagging partitions, seconds; later data is a revision."
    )
    series_max: Annotated[int, Field(ge=1, le=SERIES_MAX)] = Field(
        default=10_000,
        description="Most series (scenario, model, version) that a partition keeps in memory, and that a window has; "
        "the rest of a window share one. Series at rest above it are parked in the state topic and come back exact. "
        "Of a partition and not of a process, so that no result depends on who owns what: a process that owns all "
        "partitions of `inference.windows` keeps so many times as many, some 30 KB each, which with the defaults of "
        "both is 60,000 series and 1.8 GB.",
    )
    parked_series_max: Annotated[int, Field(ge=0, le=SERIES_MAX)] = Field(
        default=50_000,
        description="Most parked series of a partition; above it those parked longest ago are forgotten. Each takes "
        "some 4 KB of the state topic and of this process's scratch file (in TMPDIR), and 0.4 KB of memory.",
    )
    learning_windows: Annotated[int, Field(ge=3, le=1_000)] = Field(
        default=6,
        description="Windows that a new series is only watched: no alarm but for want of memory, and its scores say "
        "that it learns.",
    )
    requests_min: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="A window with fewer requests of a series is stored but not judged."
    )
    detector: str = Field(
        default=registry.DEFAULT,
        description="Detector that scores the metrics of windows, a name of docs/detect.md. Another learns anew.",
    )
    alerts_a_week: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=DEFAULT_A_WEEK,
        description="Alert budget: at most so many a week over all series rest on a score. Facts need none. Not less "
        "than the partitions of the windows topic.",
    )
    row_models_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=16, description="Most row models (one per model and scenario) of a partition; the rest share one."
    )
    row_window: Annotated[int, Field(ge=10, le=60_000)] = Field(
        default=1_000, description="Requests between renewals of a row model; it judges after the first so many."
    )
    level_seconds: Annotated[float, Field(ge=1, le=1e7)] = Field(
        default=300.0, description="Memory of a metric's expected level, seconds."
    )
    scale_seconds: Annotated[float, Field(ge=1, le=1e8)] = Field(
        default=86_400.0, description="Memory of a metric's usual deviation, seconds."
    )
    adapt_seconds: Annotated[float, Field(ge=1, le=1e7)] = Field(
        default=1_800.0, description="A shift that lasts so long becomes the new normal, seconds; till then not learnt."
    )
    latency_ms_min: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=150.0, description="Smallest rise of the 95 % latency that can alert, milliseconds."
    )
    latency_share_min: Annotated[float, Field(ge=0, le=1_000)] = Field(
        default=0.8, description="Smallest rise of the 95 % latency that can alert, as a share of its level."
    )
    error_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="Smallest rise of the share of failed requests that can alert."
    )
    rate_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8, description="Smallest fall of requests per second that can alert, as a share of its level."
    )
    rate_min: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=5.0, description="Smallest fall of requests per second that can alert, in requests per second."
    )
    timeout_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="Smallest rise of the share of requests that had too little time that can alert."
    )
    oom_min: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1, description="So many requests of a window that failed for want of memory can alert."
    )
    empty_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="Smallest rise of the share of empty answers that can alert."
    )
    repeated_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1, description="Smallest rise of the share of outcomes told again that can alert."
    )
    schema_share_min: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="Smallest rise of the share of requests that are not what the topic carries."
    )
    leak_share_min: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.1, description="Smallest steady growth of memory over hours that can alert, as a share of its level."
    )
    drift_psi_min: Annotated[float, Field(ge=0.01, le=100)] = Field(
        default=0.25, description="Smallest population stability index against a version's own first windows."
    )
    reference_windows: Annotated[int, Field(ge=3, le=100_000)] = Field(
        default=60, description="Windows of a version that drift is measured against, the first; then they are frozen."
    )
    stall_windows: Annotated[float, Field(ge=0.5, le=1_000)] = Field(
        default=1.5,
        description="Requests that wait for so many windows without any answer are a stall. Above what the group takes "
        "to notice a dead worker (INFERWATCH_KAFKA_SESSION_TIMEOUT_MS); at most 1.5 to be told of it within two.",
    )
    lag_windows: Annotated[float, Field(ge=0.5, le=10_000)] = Field(
        default=3.0, description="The oldest request waits for so many windows although others are answered: lag."
    )
    lag_owed_min: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="Fewer owed requests of a scenario are no lag: single ones that take long."
    )
    ledger_seconds: Annotated[float, Field(ge=0.05, le=60)] = Field(
        default=1.0, description="Time between two reports of the ledger while something waits, seconds."
    )
    open_windows: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=2, description="Anomalous windows in a row that open an alert. A fall of the rate needs two more."
    )
    tail_windows: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=8, description="The same where only the slowest requests are slow, as short stalls make them."
    )
    resolve_windows: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=3, description="Normal windows in a row that resolve an alert."
    )
    update_seconds: Annotated[float, Field(ge=0, le=1e6)] = Field(
        default=60.0, description="Least time between two updates of a worsening alert, seconds."
    )
    cool_down_seconds: Annotated[float, Field(ge=0, le=1e6)] = Field(
        default=30.0, description="For so long after a resolved alert the next needs twice the windows, seconds."
    )
    idle_seconds: Annotated[float, Field(ge=1, le=1e7)] = Field(
        default=600.0,
        description="A series without requests for so long rests: not scored, alerts resolved, seconds. Alerts that "
        "could not be judged for so long, because there were too few requests, are resolved too.",
    )

    @field_validator("detector")
    @classmethod
    def _detector_is_known(cls, name: str) -> str:
        if name not in registry.names():
            raise ValueError(f"no detector {name!r}: choose one of {', '.join(registry.names())}, or leave it out")
        return name

    @model_validator(mode="after")
    def _idle_outlasts_windows(self) -> Self:
        if self.idle_seconds < 2 * self.window_seconds:
            raise ValueError(f"idle_seconds {self.idle_seconds}: two windows, {2 * self.window_seconds}, are the least")
        return self

    @model_validator(mode="after")
    def _few_windows_wait(self) -> Self:
        if self.allowed_lateness_seconds > WAITING_WINDOWS_MAX * self.window_seconds:
            raise ValueError(
                f"allowed_lateness_seconds {self.allowed_lateness_seconds}: more than {WAITING_WINDOWS_MAX} windows of "
                f"window_seconds {self.window_seconds} could wait in memory for a lagging partition; lower it to "
                f"{WAITING_WINDOWS_MAX * self.window_seconds:.0f}, or make windows longer"
            )
        return self

    @property
    def ledger_group(self) -> str:
        """Consumer group of the ledger."""
        return f"{self.group}.ledger"

    @property
    def window_ms(self) -> int:
        """Length of a window, whole milliseconds."""
        return round(self.window_seconds * 1000)

    @property
    def allowed_lateness_ms(self) -> int:
        """Allowed lateness, whole milliseconds."""
        return round(self.allowed_lateness_seconds * 1000)
