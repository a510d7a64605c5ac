import pytest

from benchmarks.load_guard import foreign_hosts, hosts_of


@pytest.mark.parametrize(
    ("servers", "hosts"),
    [
        ("127.0.0.1:9092", ["127.0.0.1"]),
        ("localhost:9092, kafka-1.shop.example:9092", ["localhost", "kafka-1.shop.example"]),
        ("[::1]:9092", ["::1"]),
        ("", []),
    ],
)
def test_hosts_of_bootstrap_servers(servers, hosts):
    assert hosts_of(servers) == hosts


def test_only_this_machine_by_name_is_not_foreign():
    assert foreign_hosts(["127.0.0.1", "127.0.1.1", "localhost", "LOCALHOST", "::1"]) == []
    assert foreign_hosts(["10.0.0.7", "kafka", "127.0.0.1.example.com", "0.0.0.0", "kafka"]) == [
        "0.0.0.0",
        "10.0.0.7",
        "127.0.0.1.example.com",
        "kafka",
    ]
