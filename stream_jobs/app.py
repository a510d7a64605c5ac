"""The only Faust set-up: one app, an agent per topic, raw bytes, no tables, producer or web; run by mode's worker."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import faust
import mode
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy

from infra.ports import Record, TryAgain
from infra.settings import KafkaSettings
from stream_jobs.detour import read_detour
from stream_jobs.faust_consumer import BarrierConsumer, BarrierTransport, Listener
from stream_jobs.faust_records import record_of

LOG = logging.getLogger(__name__)
STREAM_BUFFER_RECORDS = 16
"""Records waiting in a stream. Few: a record may hold a megabyte, and the fetcher holds more anyway."""
POLL_INTERVAL_SECONDS = 86_400.0
"""Back-pressure may stop fetching for as long as storage is away; the group must not take the partitions for that."""


class Job(Listener, Protocol):
    """What runs on the app. Methods are called on the event loop's thread."""

    async def start(self, consumer: BarrierConsumer) -> None:
        """The event loop runs; the consumer exists and has not joined the group yet."""

    async def take(self, record: Record, serial: int) -> None:
        """A record; waits while there is too much to do. Whatever it raises is a fault of the program."""

    async def finish(self) -> None:
        """Make everything durable and commit it: the process is about to leave the group."""

    def fatal(self, error: BaseException) -> None:
        """The program is broken: end the process now. Does not return."""


class _Boot(BootStrategy):
    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class JobApp(faust.App):
    """A Faust app that runs one job."""

    BootStrategy = _Boot
    is_up = False
    job: Job
    detour: Callable[[Mapping[tuple[str, int], int]], list[Record]]
    """Reads on from offsets where the app's own consumer cannot."""

    @property
    def listener(self) -> Listener:
        """Told of rebalances."""
        return self.job

    async def on_first_start(self) -> None:
        """Make no directories (stock Faust does): nothing is stored on disk."""
        await self.job.start(cast(BarrierConsumer, self.consumer))

    async def stop(self) -> None:
        """Finish the job while this process is still a member of the group, then leave."""
        if not self._stopped.is_set():
            await self.job.finish()
        await super().stop()

    async def on_started(self) -> None:
        """All of it runs."""
        self.is_up = True
        await super().on_started()

    def _crash(self, reason: BaseException) -> None:
        # Kafka went away before the app was there: `run` says so, whoever is told of it first.
        if not isinstance(reason, asyncio.CancelledError) and (self.is_up or not _is_away(reason)):
            self.job.fatal(reason)
        super()._crash(reason)


def new_app(settings: KafkaSettings, *, group: str, client_id: str, topics: Sequence[str], job: Job) -> JobApp:
    """The app: an agent per topic that hands records to the job."""
    session_seconds = settings.session_timeout_ms / 1000
    app = JobApp(
        group,
        broker=_broker(settings),
        broker_client_id=client_id,
        broker_credentials=_credentials(settings),
        # Together, or a killed member's partitions stay away for a minute.
        broker_session_timeout=session_seconds,
        broker_heartbeat_interval=max(0.3, session_seconds / 4),
        broker_request_timeout=max(10.0, session_seconds + 1.0),
        broker_rebalance_timeout=max(10.0, 2 * session_seconds),
        broker_max_poll_interval=POLL_INTERVAL_SECONDS,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=STREAM_BUFFER_RECORDS,
        stream_wait_empty=False,
        stream_publish_on_commit=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        producer_threaded=False,
        key_serializer="raw",
        value_serializer="raw",
        logging_config=None,
        autodiscover=False,
        id_format="{id}",
    )
    app.job = job
    app.detour = partial(read_detour, settings)
    app.transport = BarrierTransport(app.conf.broker_consumer, app)
    for topic in topics:
        channel = app.topic(topic, key_type=bytes, value_type=bytes, allow_empty=True, acks=False)
        app.agent(channel, name=f"take-{topic}", concurrency=1)(_agent(job))
    return app


def run(app: JobApp) -> None:
    """Run until SIGTERM or SIGINT, then stop in order. Leaves by `SystemExit`, 0 after an orderly stop.

    Raises TryAgain when Kafka went away before the app was there: another try may find it.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = mode.Worker(
        app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True, debug=False, daemon=True
    )
    try:
        worker.execute_from_commandline()
    except SystemExit:
        away = app.crash_reason or app.consumer.crash_reason  # the app itself may not have been told yet
        if away is not None and _is_away(away):
            raise TryAgain(f"Kafka went away while the job was started: {away}") from None
        raise


def _is_away(reason: BaseException) -> bool:
    return isinstance(reason, KafkaError) and bool(reason.retriable)


def _agent(job: Job) -> Callable[[Any], Awaitable[None]]:
    async def take_all(stream: Any) -> None:
        try:
            async for event in stream.events():
                message = event.message
                await job.take(record_of(message), message.serial)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # An agent that raises would be restarted, and its event lost.
            job.fatal(error)

    return take_all


def _broker(settings: KafkaSettings) -> str:
    if settings.bootstrap_servers is None:
        raise TryAgain("no Kafka: set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS, or run `make up` first")
    return ";".join(f"aiokafka://{server.strip()}" for server in settings.bootstrap_servers.split(","))


def _credentials(settings: KafkaSettings) -> Any:
    context = _tls(settings) if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        return faust.SASLCredentials(
            mechanism=settings.sasl_mechanism,
            username=settings.sasl_username,
            password=settings.sasl_password.get_secret_value(),
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    authority = None if settings.ssl_ca_location is None else str(settings.ssl_ca_location)
    context = ssl.create_default_context(cafile=authority)
    if settings.ssl_certificate_location is not None:
        password = None if settings.ssl_key_password is None else settings.ssl_key_password.get_secret_value()
        key = settings.ssl_key_location
        context.load_cert_chain(settings.ssl_certificate_location, key, password)
    return context
