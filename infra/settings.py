"""Settings: from the environment (`INFERWATCH_*`) or files for secrets, checked once, frozen, refused in words.

Owns the settings of the shared parts and the base class that the applications' own settings use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from infra.addresses import servers_problem, url_problem, without_secrets
from infra.health import HealthPolicy
from infra.redaction import keep_secret
from schemas.topics import PARTITIONS

PREFIX = "INFERWATCH_"
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
ADDRESSES = frozenset({"url", "bootstrap_servers"})
"""Fields whose values are shown without what may be a password."""


class SettingsError(Exception):
    """A setting cannot work. The text names it, its value, why, and the ways to fix it. Exit code 78."""


S = TypeVar("S", bound="Settings")


def _readable(path: Path) -> Path:
    if not path.exists():
        raise ValueError("there is no such file")
    if path.is_dir():
        raise ValueError("is a folder, not a file")
    if not os.access(path, os.R_OK):
        raise ValueError("cannot be read by this user")
    return path


def _servers(value: str) -> str:
    return _without(servers_problem(value, instead=_credentials("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD")), value)


def _url(value: str) -> str:
    return _without(url_problem(value, instead=_credentials("CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD")), value)


def _credentials(user: str, password: str) -> str:
    return f"{PREFIX}{user} and {PREFIX}{password} (or {PREFIX}{password}_FILE)"


def _without(problem: str | None, value: str) -> str:
    if problem is not None:
        raise ValueError(problem)
    return value


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A file that is there: a missing certificate is otherwise found out by each client in its own words, and late."""


class Settings(BaseSettings):
    """Base of all settings. `NAME_FILE` may hold the path of a file with the value of `NAME` (for secrets)."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)
    WAYS_OUT: ClassVar[str] = "correct it or unset it to use the default; docs/settings.md lists all"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over `*_FILE`."""
        return init_settings, env_settings, _FileSource(settings_cls)


class _FileSource(PydanticBaseSettingsSource):
    """Reads the value of `INFERWATCH_X` from the file that `INFERWATCH_X_FILE` names."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{self.config.get('env_prefix', PREFIX)}{field_name}_FILE".upper()
        path = os.environ.get(variable)
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except OSError as error:
            raise SettingsError(
                f"{variable}={path}: cannot be read ({error.strerror}). Ways out: make the file readable, or unset it."
            ) from None

    def __call__(self) -> dict[str, Any]:
        found = ((name, self.get_field_value(field, name)[0]) for name, field in self.settings_cls.model_fields.items())
        return {name: value for name, value in found if value is not None}


class KafkaSettings(Settings):
    """How to reach Kafka."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "KAFKA_", frozen=True, extra="ignore", env_ignore_empty=True)

    bootstrap_servers: Annotated[str, AfterValidator(_servers)] | None = Field(
        default=None, description="host:port,host:port. Unset: `inferwatch up` starts an embedded broker."
    )
    security_protocol: Annotated[str, Field(pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")] = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_mechanism: Annotated[str, Field(pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")] = Field(
        default="SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; used with SASL_*."
    )
    sasl_username: str | None = Field(default=None, description="User name for SASL.")
    sasl_password: SecretStr | None = Field(
        default=None, description="Password for SASL; or INFERWATCH_KAFKA_SASL_PASSWORD_FILE."
    )
    ssl_ca_location: ReadableFile | None = Field(
        default=None, description="PEM file of the authority that signed the broker's certificate."
    )
    ssl_certificate_location: ReadableFile | None = Field(
        default=None, description="PEM file of this client's certificate (mutual TLS)."
    )
    ssl_key_location: ReadableFile | None = Field(
        default=None, description="PEM file of this client's key (mutual TLS)."
    )
    ssl_key_password: SecretStr | None = Field(default=None, description="Password of the key; or the _FILE form.")
    session_timeout_ms: Annotated[int, Field(ge=1_000, le=300_000)] = Field(
        default=10_000,
        description="A group member silent for so long loses its partitions, milliseconds. Shorter: faster take-over.",
    )

    @model_validator(mode="after")
    def _sasl_needs_a_user(self) -> Self:
        missing = [name for name in ("sasl_username", "sasl_password") if getattr(self, name) is None]
        if self.security_protocol.startswith("SASL") and missing:
            raise ValueError(f"security_protocol {self.security_protocol} needs {' and '.join(missing)}")
        return self


class ClickHouseSettings(Settings):
    """How to reach ClickHouse over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX + "CLICKHOUSE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None, description="http(s)://host:port. Unset: `inferwatch up` starts the embedded engine."
    )
    user: str = Field(default="default", description="User name.")
    password: SecretStr = Field(default=SecretStr(""), description="Password; or INFERWATCH_CLICKHOUSE_PASSWORD_FILE.")
    database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        default="default", description="Database of our tables."
    )
    ca_location: ReadableFile | None = Field(
        default=None, description="PEM file of the authority that signed the server's certificate."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="Longest wait for one request."
    )


class StackSettings(Settings):
    """The embedded stack and what is common to all processes."""

    data_dir: Path = Field(
        default=Path(".inferwatch"), description="Folder of the embedded stack's data, logs and ports."
    )
    kafka_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port of the embedded broker; 0: a free one."
    )
    clickhouse_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port of the embedded engine; 0: a free one."
    )
    topic_partitions: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=PARTITIONS,
        description="Partitions of each topic when it is made. Dear to change later: keys move.",
    )
    topic_replication: Annotated[int, Field(ge=1, le=7)] = Field(
        default=1, description="Replicas of each topic when it is made."
    )
    topic_retention_factor: Annotated[float, Field(gt=0, le=10_000)] = Field(
        default=1.0, description="Multiplies every topic's retention in bytes; the defaults suit a laptop."
    )


class HealthSettings(Settings):
    """Where /metrics and /health are served, and when a process is not ready or not alive. Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "HEALTH_", frozen=True, extra="ignore", env_ignore_empty=True)

    address: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default="127.0.0.1",
        description="Address to serve on. Loopback, because nobody has to log in; 0.0.0.0 in a container.",
    )
    stalled_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=30.0,
        description="A worker that owes answers and has given none for so long is not ready. Above the longest batch "
        "(a generated text takes seconds, a held-back one too), and no longer than people stare at a screen.",
    )
    turn_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=60.0,
        description="A process whose loop has not come round for so long is not alive. Twice as long as handing a "
        "record to a full send buffer may block.",
    )
    hung_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=300.0,
        description="A worker whose model has held requests for so long without one answer is not alive either: its "
        "partitions are stuck until another takes them.",
    )

    @model_validator(mode="after")
    def _hung_is_later_than_stalled(self) -> Self:
        if self.hung_seconds < self.stalled_seconds:
            raise ValueError(f"hung_seconds {self.hung_seconds} is below stalled_seconds {self.stalled_seconds}")
        return self

    @property
    def policy(self) -> HealthPolicy:
        """The same for the judge."""
        return HealthPolicy(self.stalled_seconds, self.turn_seconds, self.hung_seconds)


class LogSettings(Settings):
    """What is logged, how, and what of it goes to the log topic."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "LOG_", frozen=True, extra="ignore", env_ignore_empty=True)

    format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="json: one object a line. text: for people. auto: text on a terminal, else json.",
    )
    level: LogLevel | None = Field(
        default=None, description="Least severe level that is logged. Unset: WARNING for traffic generators, else INFO."
    )
    publish: bool = Field(
        default=True, description="Whether workers also put their log lines on the topic inference.logs."
    )
    publish_level: LogLevel = Field(default="INFO", description="Least severe level that goes to the topic.")


def load(cls: type[S], **values: Any) -> S:
    """Read settings. Raises SettingsError naming each wrong one, its value, why, and the ways to fix it.

    The secrets among them are kept out of logs from then on.
    """
    try:
        found = cls(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(cls, one) for one in error.errors(include_url=False))) from None
    for name in cls.model_fields:
        value = getattr(found, name)
        if isinstance(value, SecretStr):
            keep_secret(value.get_secret_value())
    return found


def _explain(cls: type[Settings], error: Any) -> str:
    why = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return f"{_named(cls, why, error.get('input') or {})}: {why}. Ways out: {cls.WAYS_OUT}."
    name = str(error["loc"][0])
    field = cls.model_fields.get(name)
    meaning = f" ({field.description})" if field is not None and field.description else ""
    variable = _variable(cls, "_".join(map(str, error["loc"])))
    return f"{variable}={_shown(cls, name, error.get('input'))}: {why}{meaning}. Ways out: {cls.WAYS_OUT}."


def _named(cls: type[Settings], why: str, given: Mapping[str, Any]) -> str:
    """Settings that do not go together, those that `why` names: each variable with its value, or that it is unset."""
    words = set(re.findall(r"\w+", why))
    named = ", ".join(
        f"{_variable(cls, name)}={_shown(cls, name, given[name])}" if name in given else f"{_variable(cls, name)} unset"
        for name in cls.model_fields
        if name in words
    )
    return named or _variable(cls, "*")


def _variable(cls: type[Settings], name: str) -> str:
    return f"{cls.model_config.get('env_prefix', PREFIX)}{name}".upper()


def _shown(cls: type[Settings], name: str, value: Any) -> str:
    field = cls.model_fields.get(name)
    if field is not None and "Secret" in str(field.annotation):
        return "(secret)"
    return repr(without_secrets(value) if name in ADDRESSES and isinstance(value, str) else value)
