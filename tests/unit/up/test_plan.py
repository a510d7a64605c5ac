from pathlib import Path

from infra.up.plan import SERVING, TABLES, TOPICS, Addresses, Groups, UpOptions, plan, served_names

HERE = Addresses("127.0.0.1:1", "http://127.0.0.1:2", 1, 2)
ELSEWHERE = Addresses("kafka:9092", "http://clickhouse:8123", None, None)
DATA = Path("/data")


DEFAULTS, GROUPS = UpOptions(), Groups()


def by_name(options=DEFAULTS, addresses=HERE, groups=GROUPS):
    return {spec.name: spec for spec in plan(options, addresses, DATA, groups)}


def test_what_is_slow_to_start_waits_for_nothing():
    specs = by_name()
    assert [name for name, spec in specs.items() if not spec.needs] == ["kafka", "worker", "clickhouse"]
    assert specs["simulator"].needs == {TOPICS}
    assert specs["jobs"].needs == {TOPICS, TABLES, SERVING}


def test_stopping_goes_from_the_traffic_to_the_servers():
    order = sorted(by_name().values(), key=lambda spec: spec.stop_rank)
    assert [spec.name for spec in order] == ["simulator", "worker", "jobs", "clickhouse", "kafka"]


def test_servers_that_run_elsewhere_are_not_started():
    specs = by_name(addresses=ELSEWHERE)
    assert set(specs) == {"worker", "simulator", "jobs"}
    assert specs["jobs"].environment["INFERWATCH_CLICKHOUSE_URL"] == "http://clickhouse:8123"
    assert not any("infra.embedded" in " ".join(spec.command) for spec in specs.values())


def test_several_of_a_kind_are_numbered():
    assert {"worker-1", "worker-2", "worker-3", "jobs-1", "jobs-2"} <= set(by_name(UpOptions(workers=3, jobs=2)))


def test_no_traffic_no_simulator():
    assert "simulator" not in by_name(UpOptions(traffic=False))


def test_the_rate_and_the_seed_reach_the_simulator():
    command = " ".join(by_name(UpOptions(rate=12.5, broken_share=0.0, seed=7))["simulator"].command)
    assert command.endswith("infra.cli simulate --data auto --rate 12.5 --broken-share 0 --seed 7")


def test_groups_follow_the_environment_that_the_children_inherit():
    groups = Groups.of({"INFERWATCH_JOBS_GROUP": "mine", "INFERWATCH_WORKER_GROUP": ""})
    assert groups == Groups("inference-workers", "mine")
    assert by_name(groups=groups)["jobs"].environment["INFERWATCH_JOBS_GROUP"] == "mine"


def test_workers_and_jobs_say_on_a_port_of_their_own_how_they_are():
    options = UpOptions(workers=2, jobs=1)
    assert served_names(options) == (["worker-1", "worker-2"], ["jobs"])
    specs = {spec.name: spec for spec in plan(options, HERE, DATA, Groups(), {"worker-2": 7, "jobs": 9})}
    assert "INFERWATCH_WORKER_METRICS_PORT" not in specs["worker-1"].environment
    assert specs["worker-2"].environment["INFERWATCH_WORKER_METRICS_PORT"] == "7"
    assert specs["jobs"].command[-2:] == ("--metrics-port", "9")
