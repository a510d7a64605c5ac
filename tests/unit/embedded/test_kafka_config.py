import re

from infra.embedded import kafka_config
from infra.embedded.kafka_runtime import KafkaRuntime


def settings(text):
    return dict(line.split("=", 1) for line in text.splitlines())


def test_only_this_machine_can_connect():
    text = kafka_config.server_properties(broker_port=20001, controller_port=20002)
    addresses = re.findall(r"[\w.]*:\d+", settings(text)["listeners"] + "," + settings(text)["advertised.listeners"])
    assert addresses == ["127.0.0.1:20001", "127.0.0.1:20002", "127.0.0.1:20001"]


def test_a_dead_letter_fits():
    found = settings(kafka_config.server_properties(1, 2))
    assert int(found["message.max.bytes"]) >= 1024 * 1024 + 2 * 64 * 1024
    assert found["auto.create.topics.enable"] == "false"


def test_every_internal_topic_does_with_one_replica():
    found = settings(kafka_config.server_properties(1, 2))
    replicas = {name: value for name, value in found.items() if name.endswith(("replication.factor", "min.isr"))}
    assert len(replicas) >= 6
    assert set(replicas.values()) == {"1"}


def test_the_users_own_java_options_do_not_reach_it():
    environ = {"JAVA_TOOL_OPTIONS": "-Xmx1m", "CLASSPATH": "/x", "HOME": "/home"}
    assert kafka_config.java_environment(environ) == {"HOME": "/home", "LC_ALL": "C.UTF-8"}


def test_every_path_given_to_java_is_its_own_folder_or_the_runtime(tmp_path):
    command = kafka_config.java_command(KafkaRuntime(tmp_path / "java", (tmp_path / "a.jar", tmp_path / "b.jar")))
    assert command[0] == str(tmp_path / "java")
    assert command[-2:] == ["-cp", f"{tmp_path / 'a.jar'}:{tmp_path / 'b.jar'}"]
    assert not any("/" in word for word in command[1:-1])
