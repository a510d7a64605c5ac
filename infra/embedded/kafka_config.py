"""What the embedded Kafka is told: server.properties, its logging and Java's flags, as pure functions.

One node that is broker and controller (KRaft), reachable from this machine only, with a laptop's disk in mind.
Java runs in Kafka's folder and every path here is relative to it: the folder may be moved, and what its name
holds (a comma, a space) means nothing to Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping

from infra.embedded.kafka_runtime import KafkaRuntime

MIB = 1024 * 1024
OFFSETS_PARTITIONS = 8
RECORDS, LOG = "records", "broker.log"
READY_LINE = "Kafka Server started"
# Variables that make Java add options of the user's own to every start, or print a line about it.
JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


def server_properties(broker_port: int, controller_port: int, records: str = RECORDS) -> str:
    """Kafka's settings file. `records`: the folder of its data. Topics of ours declare their own retention."""
    broker, controller = f"127.0.0.1:{broker_port}", f"127.0.0.1:{controller_port}"
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        # Fixed voters, not bootstrap servers: the address is read from here at each start, so a port may change.
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"BROKER://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"BROKER://{broker}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": records,
        # Topics are provisioned; a misspelt name is an error, not a new topic.
        "auto.create.topics.enable": "false",
        # A dead letter is its source record of 1 MiB plus 64 KiB and headers.
        "message.max.bytes": 2 * MIB,
        "replica.fetch.max.bytes": 2 * MIB,
        **_one_replica(),
        **_small_disk(),
        **_small_memory(),
        **_quick_again(),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _one_replica() -> dict[str, object]:
    return {
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": OFFSETS_PARTITIONS,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
    }


def _small_disk() -> dict[str, object]:
    return {
        "log.segment.bytes": 16 * MIB,
        "log.index.size.max.bytes": MIB,  # enough for 340 MiB of records
        "log.retention.hours": 48,
        "log.retention.bytes": 128 * MIB,
        "log.retention.check.interval.ms": 60_000,
        "log.segment.delete.delay.ms": 10_000,
        "offsets.topic.segment.bytes": 16 * MIB,
        "transaction.state.log.segment.bytes": 16 * MIB,
        "share.coordinator.state.topic.segment.bytes": 16 * MIB,
        "metadata.log.segment.bytes": 16 * MIB,
        "metadata.max.retention.bytes": 32 * MIB,
        # Each idle tick is a synchronous write; twice a second keeps a laptop's disk awake.
        "metadata.max.idle.interval.ms": 5_000,
    }


def _small_memory() -> dict[str, object]:
    return {
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
        "group.coordinator.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 * MIB,  # allocated at the start; the default is 128 MiB
    }


def _quick_again() -> dict[str, object]:
    return {
        # After a kill the controller waits for the dead broker's session to end before it lets the new one in:
        # 12 s to start again with the default of 9 s.
        "broker.session.timeout.ms": 3_000,
        "broker.heartbeat.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "group.consumer.min.session.timeout.ms": 1_000,
        "group.consumer.min.heartbeat.interval.ms": 300,
    }


def log4j_properties() -> str:
    """Logging: warnings and the line that says the server has started, at most 8 MiB in four files."""
    return f"""status=error
appender.file.type=RollingFile
appender.file.name=FILE
appender.file.fileName={LOG}
appender.file.filePattern=broker.%i.log
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=2MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=warn
rootLogger.appenderRef.file.ref=FILE
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


def java_command(runtime: KafkaRuntime) -> list[str]:
    """Java with its flags and class path; the main class and its arguments follow."""
    return [
        str(runtime.java),
        "-Xmx512m",
        # The serial collector and the quick compiler alone: few threads, little memory, a quick start.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",  # a broker that lost a thread would hang; its supervisor starts it again
        "-XX:-UsePerfData",  # no files outside the folder
        "-XX:ErrorFile=java_crash.log",
        "-Djava.io.tmpdir=tmp",
        "-Dlog4j2.configurationFile=log4j2.properties",
        "-Djava.awt.headless=true",
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        runtime.class_path,
    ]


def java_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment Java gets: this process's, without what would add options to every start of Java."""
    kept = {name: value for name, value in environ.items() if name not in JAVA_VARIABLES}
    return kept | {"LC_ALL": "C.UTF-8"}  # in the C locale Java cannot open a path beyond ASCII
