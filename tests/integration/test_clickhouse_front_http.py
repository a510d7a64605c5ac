"""The embedded ClickHouse as curl and other plain HTTP programs see it, and what happens when things end badly."""

import json
import signal
import socket
import subprocess
import sys
import threading

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from tests.integration.front_process import ROOT, Front, wait_until
from tests.parts import program


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    small = ("--queries-max", "2", "--waiting-max", "1", "--body-mib-max", "4")
    running = Front(tmp_path_factory.mktemp("front_http"), *small)
    yield running
    assert running.stop() == 0


def curl(*arguments, data=None):
    done = subprocess.run(
        [program("curl"), "-sS", *arguments], input=data, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(front):
    url = front.ready["url"]
    assert curl(f"{url}/ping") == b"Ok.\n"
    assert curl(url) == b"Ok.\n"
    assert curl(f"{url}/?query=SELECT%201") == b"1\n"
    assert curl(url, "--data-binary", "SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    assert curl(f"{url}/?query=SELECT&default_format=CSV", "--data-binary", "'x'") == b'"x"\n'
    assert curl(f"{url}/?param_a=5", "--data-binary", "SELECT {a:UInt8} + 1") == b"6\n"
    curl(url, "-u", "someone:secret", "-d", "CREATE TABLE c (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    insert = f"{url}/?query=INSERT%20INTO%20c%20FORMAT%20"
    assert curl(f"{insert}CSV", "--data-binary", "@-", data=b'1,"x"\n') == b""
    assert curl(f"{insert}TabSeparated", "--data-binary", "@-", data=b"2\ty\n") == b""
    assert curl(f"{insert}JSONEachRow", "-T", "-", "-X", "POST", data=b'{"a":3,"b":"z"}') == b""
    assert curl(f"{url}/?query=INSERT%20INTO%20c%20VALUES", "-d", "(4, 'v'), (2 + 3, 'w')") == b""
    assert curl(url, "-d", "INSERT INTO c VALUES (6, concat('a', 'b'))") == b""
    assert curl(url, "-d", "SELECT * FROM c ORDER BY a FORMAT CSV") == (b'1,"x"\n2,"y"\n3,"z"\n4,"v"\n5,"w"\n6,"ab"\n')
    stream = curl(url, "-d", "SELECT * FROM c FORMAT ArrowStream")
    assert curl(f"{insert}ArrowStream", "--data-binary", "@-", data=stream) == b""
    assert curl(url, "-d", "SELECT count() FROM c") == b"12\n"
    packed = curl(f"{url}/?enable_http_compression=1", "--compressed", "-d", "SELECT number FROM numbers(1000)")
    assert packed.splitlines() == [str(number).encode() for number in range(1000)]


def test_an_error_is_told_as_the_server_tells_it(front):
    status, headers, body = front.ask(b"SELECT * FROM nowhere")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "60")
    assert body.startswith(b"Code: 60. DB::Exception: ")
    assert b"(UNKNOWN_TABLE) (version 26" in body
    assert front.ask(b"SELEC 1 FRM")[0] == 400
    assert front.ask(b"SELECT 1", nonsense="1")[0] == 404
    assert front.ask(b"SELECT throwIf(1)")[0] == 500
    assert front.ask(b"")[0] == 400
    assert front.ask(b"SELECT 1", path="/elsewhere")[0] == 404
    assert front.ask(b"INSERT INTO nowhere FORMAT CSV\n1\n")[0] == 404
    assert front.ask(b"not gzip", headers={"Content-Encoding": "gzip"})[1]["X-ClickHouse-Exception-Code"] == "271"
    assert front.ask(b"x", headers={"Content-Encoding": "br"})[1]["X-ClickHouse-Exception-Code"] == "271"


def test_an_answer_says_what_it_is(front):
    status, headers, body = front.ask(b"SELECT 1 AS a FORMAT JSON", query_id="mine")
    assert status == 200
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Format"] == "JSON"
    assert headers["X-ClickHouse-Timezone"] == "UTC"
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body)["data"] == [{"a": 1}]
    assert json.loads(headers["X-ClickHouse-Summary"])["read_rows"] == "1"
    assert front.ask(b"SELECT timezone()")[2] == b"UTC\n"


def test_a_link_changes_nothing(front):
    status, headers, _ = front.ask(method="GET", query="CREATE TABLE linked (a UInt8) ENGINE = Memory")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    for readonly in ("0", "1", "2"):
        asked = {"query": "CREATE TABLE linked (a UInt8) ENGINE = Memory", "readonly": readonly}
        assert front.ask(method="GET", **asked)[1]["X-ClickHouse-Exception-Code"] == "164"
    assert front.ask(method="GET", query="EXISTS TABLE linked")[2] == b"0\n"


def test_a_web_page_of_another_site_is_refused(front):
    assert front.ask(b"SELECT 1", headers={"Origin": "https://example.com"})[0] == 403
    assert front.ask(b"SELECT 1", headers={"Host": "rebound.example.com"})[0] == 403
    assert front.ask(b"SELECT 1", headers={"Origin": "http://localhost:3000"})[0] == 200
    for site in ("cross-site", "same-site"):
        asked = front.ask(method="GET", query="SELECT 1", headers={"Sec-Fetch-Site": site})
        assert (asked[0], asked[2][:13]) == (403, b"Only programs")
    assert front.ask(method="GET", query="SELECT 1", headers={"Sec-Fetch-Site": "none"})[0] == 200


def test_a_body_above_the_limit_is_refused_and_the_front_goes_on(front):
    front.ask(b"CREATE TABLE bounded (a String) ENGINE = MergeTree ORDER BY a")
    large = b"INSERT INTO bounded FORMAT RowBinary\n" + b"\x01x" * (3 << 20)
    status, headers, body = front.ask(large)
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (413, "307")
    assert b"TOO_MANY_BYTES" in body
    assert front.ask(iter([large]))[0] == 413
    assert front.ask(b"SELECT '" + b"x" * (2 << 20) + b"'")[0] == 413
    assert front.ask(b"SELECT count() FROM bounded")[2] == b"0\n"


def test_a_form_above_the_limit_is_refused_whole(front):
    front.ask(b"CREATE TABLE formed (a String) ENGINE = MergeTree ORDER BY a")
    fields = {"query": b"INSERT INTO formed FORMAT CSV\nwhole\n", "param_long": b"x" * (2 << 20)}
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (n.encode(), v) for n, v in fields.items()
    ]
    form = b"".join(parts) + b"--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, headers, body = front.ask(form, headers=kind)
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (413, "307")
    assert b"form" in body
    assert front.ask(b"SELECT count() FROM formed")[2] == b"0\n"


def test_data_for_an_insert_select_is_refused_not_dropped(front):
    front.ask(b"CREATE TABLE selected (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    insert = "INSERT INTO selected SELECT * FROM input('a UInt8, b String') FORMAT CSV"
    for asked in (front.ask(f"{insert}\n9,y".encode()), front.ask(b"9,y", query=insert)):
        assert (asked[0], asked[1]["X-ClickHouse-Exception-Code"]) == (501, "48")
    assert front.ask(b"INSERT INTO selected SELECT 1, 'x' FORMAT CSV")[0] == 200
    assert front.ask(b"WITH 2 AS n INSERT INTO selected SELECT n, 'y'")[0] == 200
    assert front.ask(b"SELECT * FROM selected ORDER BY a FORMAT CSV")[2] == b'1,"x"\n2,"y"\n'


def test_a_column_may_be_named_format(front):
    front.ask(b"CREATE TABLE named_format (a UInt8, format String) ENGINE = MergeTree ORDER BY a")
    front.ask(b"INSERT INTO named_format VALUES (1, 'x'), (2, 'y')")
    ordered = b"SELECT a AS x, format FROM named_format ORDER BY format DESC"
    assert front.ask(ordered)[2] == b"2\ty\n1\tx\n"
    assert front.ask(ordered + b" FORMAT CSV")[2] == b'2,"y"\n1,"x"\n'


def test_of_two_first_statements_of_a_session_one_is_told_to_wait(front):
    slow = b"SELECT sum(sleepEachRow(0.01)) AS a FROM numbers(300) SETTINGS max_block_size = 1"
    first = b"CREATE TEMPORARY TABLE mine AS " + slow
    answers = []
    asking = threading.Thread(target=lambda: answers.append(front.ask(first, session_id="new")[0]))
    asking.start()
    running = b"SELECT count() FROM system.processes WHERE query LIKE 'CREATE TEMPORARY TABLE mine%'"
    wait_until(lambda: front.ask(running)[2] == b"1\n", "the first statement runs")
    second = front.ask(b"SET max_threads = 1", session_id="new")
    assert (second[0], second[1]["X-ClickHouse-Exception-Code"]) == (500, "373")
    asking.join()
    assert answers == [200]
    assert front.ask(b"SELECT count() FROM mine", session_id="new")[2] == b"1\n"


def test_a_client_that_dies_in_its_body_changes_nothing(front):
    front.ask(b"CREATE TABLE halves (a String) ENGINE = MergeTree ORDER BY a")
    for head in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", front.port)) as dying:
            dying.sendall(f"POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
            dying.sendall(b"2a\r\nINSERT INTO halves FORMAT CSV\nwhole line\nhalf")
    assert front.ask(b"SELECT count() FROM halves")[2] == b"0\n"


def slow_reads(front):
    return int(front.ask(b"SELECT count() FROM system.processes WHERE query LIKE 'SELECT max(sleepEach%'")[2])


SLOW = b"SELECT max(sleepEachRow(0.01)) FROM numbers(2000) SETTINGS max_block_size = 1"


def test_a_read_ends_when_its_client_goes(front):
    with socket.create_connection(("127.0.0.1", front.port)) as leaving:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(SLOW)}\r\n\r\n"
        leaving.sendall(head.encode() + SLOW)
        wait_until(lambda: slow_reads(front) == 1, "the read runs")
    wait_until(lambda: slow_reads(front) == 0, "the read is stopped")
    assert front.ask(b"SELECT 1")[2] == b"1\n"


def test_too_many_queries_are_told_to_come_back(tmp_path):
    front = Front(tmp_path, "--queries-max", "1", "--waiting-max", "0")

    def ask_until_admitted():
        while front.ask(SLOW)[0] == 503:
            pass

    asking = threading.Thread(target=ask_until_admitted)
    asking.start()
    seen = []

    def is_refused():
        status, headers, body = front.ask(b"SELECT 1")
        seen.append((status, headers["X-ClickHouse-Exception-Code"], b"TOO_MANY_SIMULTANEOUS_QUERIES" in body))
        return status != 200

    wait_until(is_refused, "the slot is taken")
    assert seen[-1] == (503, "202", True)
    front.ask(b"CREATE TABLE t (a UInt8) ENGINE = Memory")
    # SIGTERM ends the read that runs, and the process, in good order.
    assert front.stop() == 0
    asking.join()


def test_one_front_for_a_folder(front):
    command = [sys.executable, "-m", "infra.embedded.clickhouse_front", "--data", str(front.folder)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 75
    assert f"process {front.process.pid}" in second.stderr
    assert second.stdout == ""


def test_inserts_that_were_acknowledged_survive_a_kill(tmp_path):
    front = Front(tmp_path)
    front.ask(b"CREATE TABLE kept (writer UInt8, n UInt64) ENGINE = MergeTree ORDER BY (writer, n)")
    acknowledged = [0, 0]

    def write(writer):
        with front.client() as client:
            try:
                while True:
                    batch = [[writer, acknowledged[writer] * 10 + row] for row in range(10)]
                    client.insert("kept", batch, column_names=["writer", "n"])
                    acknowledged[writer] += 1
            except (ClickHouseError, OSError):
                return

    port = front.port
    writers = [threading.Thread(target=write, args=(writer,)) for writer in (0, 1)]
    for writer in writers:
        writer.start()
    wait_until(lambda: min(acknowledged) >= 20, "both writers have stored some batches")
    front.kill()
    for writer in writers:
        writer.join()
    front.start()
    assert front.port == port, "clients find it again where it was"
    for writer in (0, 1):
        counted = (
            f"SELECT countDistinct(n), count() FROM kept WHERE writer = {writer} AND n < {acknowledged[writer] * 10}"
        )
        assert front.ask(counted.encode())[2] == b"%d\t%d\n" % ((acknowledged[writer] * 10,) * 2)
    assert front.stop() == 0


def test_it_ends_with_its_parent(tmp_path):
    starter = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'infra.embedded.clickhouse_front', '--data', sys.argv[1],"
        " '--die-with-parent'], stdout=subprocess.PIPE, text=True)\n"
        "print(child.stdout.readline(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ready = json.loads(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    again = Front(tmp_path)
    assert again.ready["pid"] != ready["pid"]
    assert again.stop() == 0
