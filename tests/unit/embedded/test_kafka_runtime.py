import hashlib
from pathlib import Path

import pytest

from infra.embedded import kafka_runtime
from infra.embedded.errors import FetchFailed, UnsuitableMachine, WrongFile
from infra.embedded.kafka_runtime import JAR_LIST, KAFKA_VERSION, cache_folder, prepare_kafka, read_jar_list

JARS = {"org/one/1.0/one-1.0.jar": b"first jar", "com/big/two/2.0/two-2.0.jar": b"second jar"}


@pytest.fixture
def jar_list(tmp_path):
    path = tmp_path / "jars.sha256"
    path.write_text("".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in JARS.items()))
    return path


@pytest.fixture
def repository(monkeypatch):
    """A stand-in for jgo: answers by path are bytes, or errors; given in turn, the last one for ever."""
    answers = {name: [data] for name, data in JARS.items()}
    asked = []

    class Artifact:
        def __init__(self, scratch, group, artifact, version):
            self.name = f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"
            self.path = scratch / self.name

        def at_version(self, version):
            return self

        def artifact(self):
            return self

        def resolve(self):
            assert not self.path.exists()
            asked.append(self.name)
            turns = answers[self.name]
            answer = turns.pop(0) if len(turns) > 1 else turns[0]
            if isinstance(answer, Exception):
                raise answer
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(answer)
            return self.path

    class Context:
        def __init__(self, scratch):
            self.scratch = scratch

        def project(self, group, artifact):
            class Project:
                @staticmethod
                def at_version(version):
                    return Artifact(self.scratch, group, artifact, version)

            return Project

    monkeypatch.setattr(kafka_runtime, "_maven", lambda scratch, progress: Context(scratch))
    monkeypatch.setattr(kafka_runtime, "FETCH_PAUSE_S", 0)
    answers["asked"] = asked
    return answers


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_jars_are_fetched_once_then_found(tmp_path, jar_list, repository):
    said = []
    runtime = prepare_kafka(tmp_path / "cache", said.append, jar_list)
    assert [jar.read_bytes() for jar in runtime.jars] == list(JARS.values())
    assert "fetching Apache Kafka" in said[0]
    assert runtime.java.name == "java"
    prepare_kafka(tmp_path / "cache", said.append, jar_list)
    assert sorted(repository["asked"]) == sorted(JARS)


def test_a_jar_changed_in_the_cache_is_refused(tmp_path, jar_list, repository):
    runtime = prepare_kafka(tmp_path / "cache", jar_list=jar_list)
    runtime.jars[1].write_bytes(b"secand jar")
    with pytest.raises(WrongFile, match=r"two-2\.0\.jar.*delete this file.*INFERWATCH_CACHE_DIR") as refused:
        prepare_kafka(tmp_path / "cache", jar_list=jar_list)
    assert refused.value.exit_code == 78
    runtime.jars[1].unlink()  # the first way out
    prepare_kafka(tmp_path / "cache", jar_list=jar_list)


def test_a_cut_download_is_tried_again_and_never_used(tmp_path, jar_list, repository):
    name = next(iter(JARS))
    repository[name] = [b"first", ConnectionError("reset"), JARS[name]]
    runtime = prepare_kafka(tmp_path / "cache", jar_list=jar_list)
    assert runtime.jars[0].read_bytes() == JARS[name]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"another jar", WrongFile, "what was fetched has SHA-256"),
        (ConnectionError("no route"), FetchFailed, "no route"),
        (RuntimeError("not found"), FetchFailed, "not found"),
    ],
)
def test_what_stays_wrong_is_refused_and_leaves_nothing(tmp_path, jar_list, repository, answer, error, text):
    name = next(iter(JARS))
    repository[name] = [answer]
    with pytest.raises(error, match=text):
        prepare_kafka(tmp_path / "cache", jar_list=jar_list)
    folder = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"
    assert not (folder / name).exists()
    assert not folder.with_name(folder.name + ".part").exists()
    assert files_below(folder) <= set(JARS)


def test_what_a_killed_fetch_left_is_not_used(tmp_path, jar_list, repository):
    name = next(iter(JARS))
    left = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}.part" / name
    left.parent.mkdir(parents=True)
    left.write_bytes(b"fir")
    runtime = prepare_kafka(tmp_path / "cache", jar_list=jar_list)
    assert runtime.jars[0].read_bytes() == JARS[name]


def test_a_cache_that_cannot_be_written_is_said(tmp_path, jar_list, repository):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsuitableMachine, match="INFERWATCH_CACHE_DIR"):
        prepare_kafka(tmp_path / "file", jar_list=jar_list)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"INFERWATCH_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/inferwatch")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/inferwatch"),
        ({"INFERWATCH_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, Path.home() / ".cache/inferwatch"),
    ],
)
def test_where_the_cache_is(environ, folder):
    assert cache_folder(environ) == folder


def test_the_recorded_list_is_one_kafka(tmp_path):
    jars = read_jar_list(JAR_LIST)
    kafka = [name for name in jars if name.startswith("org/apache/kafka/")]
    assert len(jars) == 45
    assert {Path(name).parent.name for name in kafka} == {KAFKA_VERSION}
    artifacts = [Path(name).parent.parent.name for name in jars]
    assert len(artifacts) == len(set(artifacts))
    assert {"kafka_2.13", "kafka-clients", "log4j-core", "log4j-slf4j-impl"} <= set(artifacts)


@pytest.mark.parametrize("name", ["../a/b/c.jar", "/a/b/c/d.jar", "a.jar", "a/b/../c/d.jar"])
def test_a_path_out_of_the_cache_is_not_a_jar(tmp_path, name):
    (tmp_path / "list").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ValueError, match="line 1"):
        read_jar_list(tmp_path / "list")
