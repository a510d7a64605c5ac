"""The files of an embedded Kafka: its storage, made once, and what each start writes for Java to read."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import uuid
from pathlib import Path

from infra.embedded import kafka_config
from infra.embedded.child import OUTPUT, Child, last_lines
from infra.embedded.data_folder import Claim
from infra.embedded.errors import NotReady
from infra.embedded.kafka_runtime import KafkaRuntime

FORMAT_DEADLINE_S = 60.0  # takes 1.2 s
STOP_DEADLINE_S = 5.0


def format_once(claim: Claim, runtime: KafkaRuntime) -> str:
    """Make the storage of a fresh folder; the cluster id, which stays that of the folder."""
    records = claim.folder / kafka_config.RECORDS
    if not records.exists():
        # Made aside and renamed: a kill half-way leaves nothing that looks like storage.
        part = kafka_config.RECORDS + ".part"
        shutil.rmtree(claim.folder / part, ignore_errors=True)
        write_files(claim.folder, broker_port=1, controller_port=2, records=part)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if cluster_id.startswith("-"):
            cluster_id = "A" + cluster_id[1:]  # or it would be read as an option
        arguments = ("format", "--cluster-id", cluster_id, "--config", "server.properties")
        child = java_child(claim, runtime, "kafka.tools.StorageTool", *arguments)
        try:
            child.start()
            status = child.wait(FORMAT_DEADLINE_S)
        finally:
            child.end(STOP_DEADLINE_S)
        if status != 0:
            lines = "\n".join(last_lines(claim.folder / OUTPUT, 15))
            raise NotReady(f"the storage of {claim.folder} could not be made (status {status}):\n{lines}")
        (claim.folder / part).rename(records)
    return _cluster_id(records)


def _cluster_id(records: Path) -> str:
    with contextlib.suppress(OSError):
        for line in (records / "meta.properties").read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "cluster.id":
                return value.strip()
    raise NotReady(
        f"{records}: no cluster id in meta.properties, so this is not Kafka's storage. Ways out: move that folder "
        "away, and the next start makes a new one; or choose another data folder."
    )


def write_files(folder: Path, broker_port: int, controller_port: int, records: str = kafka_config.RECORDS) -> None:
    """Write what Java reads at its start, and move away what an earlier start left."""
    (folder / "server.properties").write_text(kafka_config.server_properties(broker_port, controller_port, records))
    (folder / "log4j2.properties").write_text(kafka_config.log4j_properties())
    # Native libraries are unpacked there, and a killed Java does not remove them.
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    (folder / "tmp").mkdir(exist_ok=True)
    # What is read while it starts must be this start's log.
    log = folder / kafka_config.LOG
    if log.exists():
        log.replace(folder / "broker.previous.log")


def java_child(claim: Claim, runtime: KafkaRuntime, *arguments: str) -> Child:
    """Java on the claimed folder, to be started; the arguments are its main class and what follows."""
    command = [*kafka_config.java_command(runtime), *arguments]
    environment = kafka_config.java_environment(os.environ)
    return Child(command, claim.folder, environment, claim.fileno())
