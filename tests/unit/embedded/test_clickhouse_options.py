import pytest

from infra.embedded.clickhouse_options import OptionError, is_trusted_caller, read_form, read_options


def test_settings_and_parameters_are_told_from_the_interface():
    options = read_options(
        "POST",
        "database=d&query_id=q&session_id=s&session_timeout=5&wait_end_of_query=1&enable_http_compression=1"
        "&max_threads=2&param_a=x%27y&client_protocol_version=54405&user=u&password=p",
        {"x-clickhouse-format": "CSV"},
        {},
    )
    assert options.settings == {"max_threads": "2", "param_a": "x'y"}
    assert (options.database, options.query_id, options.session_id) == ("d", "q", "s")
    assert (options.session_idle_s, options.wait_end, options.compress) == (5.0, True, True)
    assert options.default_format == "CSV"


def test_a_get_only_reads():
    assert read_options("GET", "query=SELECT+1", {}, {}).settings == {"readonly": "2"}
    assert read_options("GET", "readonly=1", {}, {}).settings == {"readonly": "1"}
    for asked in ("0", "2", "", "01"):
        assert read_options("GET", f"readonly={asked}", {}, {}).settings == {"readonly": "2"}
    assert read_options("POST", "readonly=0", {}, {}).settings == {"readonly": "0"}


@pytest.mark.parametrize("query", ["compress=1", "decompress=1", "session_timeout=never", "ext_structure=a+UInt8"])
def test_what_cannot_be_done_is_refused(query):
    with pytest.raises(OptionError):
        read_options("POST", query, {}, {})


def test_form_fields():
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {a:String}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_a"\r\n\r\n\xc3\xa4\r\n--b--\r\n'
    )
    form = read_form("multipart/form-data; boundary=b", body)
    assert form == {"query": "SELECT {a:String}", "param_a": "ä"}
    assert read_options("POST", "", {}, form).query == "SELECT {a:String}"
    with pytest.raises(OptionError, match="External tables"):
        read_form("multipart/form-data; boundary=b", body.replace(b'name="param_a"', b'name="t"; filename="t"'))
    with pytest.raises(OptionError, match="boundary"):
        read_form("multipart/form-data", b"x")


@pytest.mark.parametrize(
    ("host", "origin", "trusted"),
    [
        ("127.0.0.1:8123", None, True),
        ("localhost", "http://localhost:3000", True),
        ("[::1]:8123", None, True),
        ("", None, True),
        ("example.com:8123", None, False),
        ("127.0.0.1:8123", "https://example.com", False),
        ("127.0.0.1:8123", "null", False),
    ],
)
def test_web_pages_of_other_sites_are_not_trusted(host, origin, trusted):
    assert is_trusted_caller(host, origin) == trusted


@pytest.mark.parametrize(
    ("fetch_site", "trusted"),
    [(None, True), ("none", True), ("same-origin", True), ("same-site", False), ("Cross-Site", False), ("new", False)],
)
def test_a_page_that_sends_no_origin_is_known_by_its_fetch_metadata(fetch_site, trusted):
    assert is_trusted_caller("127.0.0.1:8123", None, fetch_site) == trusted
