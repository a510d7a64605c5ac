"""What one ClickHouse HTTP request asks for besides its statement: read from the URL, headers and form fields. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from urllib.parse import parse_qsl

BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
DEFAULT_FORMAT = "TabSeparated"

# Parameters of the interface itself, and settings that only concern the server's own HTTP: not for the engine.
_OF_THE_INTERFACE = frozenset(
    {
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "close_session",
        "database",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "http_response_buffer_size",
        "http_wait_end_of_query",
        "http_zlib_compression_level",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
_SESSION_IDLE_S_MAX = 3600.0


class OptionError(Exception):
    """The request asks for what cannot be done; `code` is ClickHouse's error number."""

    def __init__(self, message: str, code: int = BAD_ARGUMENTS) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Options:
    """`settings` holds the engine's settings and the statement's `param_x` values; times are seconds."""

    query: str = ""
    database: str = ""
    default_format: str = DEFAULT_FORMAT
    query_id: str = ""
    session_id: str = ""
    session_idle_s: float = 60.0
    close_session: bool = False
    wait_end: bool = False
    compress: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def read_options(method: str, query_string: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Options:
    """The options of one request. `headers` has small names, `form` the fields of a multipart body.

    Raises OptionError.
    """
    given = dict(parse_qsl(query_string, keep_blank_values=True, encoding="utf-8", errors="replace")) | dict(form)
    for name in ("compress", "decompress"):
        if _is_on(given.pop(name, "0")):
            raise OptionError(
                f"{name}=1 (ClickHouse's own block compression) is not supported by the embedded front. Ways out: use "
                "Accept-Encoding and Content-Encoding; or send the data plain.",
                NOT_IMPLEMENTED,
            )
    settings = {name: value for name, value in given.items() if name not in _OF_THE_INTERFACE}
    if any(name.endswith(("_structure", "_types")) for name in settings):
        raise OptionError("External tables are not supported by the embedded front.", NOT_IMPLEMENTED)
    if method == "GET":
        # What a link can ask for must not change anything, so it cannot ask to be allowed to: 2 is the server's choice
        # for GET, 1 forbids more.
        settings["readonly"] = "1" if settings.get("readonly") == "1" else "2"
    database = given.get("database") or headers.get("x-clickhouse-database") or ""
    return Options(
        query=given.get("query", ""),
        database=database,
        default_format=given.get("default_format") or headers.get("x-clickhouse-format") or DEFAULT_FORMAT,
        query_id=given.get("query_id", ""),
        session_id=given.get("session_id", ""),
        session_idle_s=_session_idle_s(given.get("session_timeout", "")),
        close_session=_is_on(given.get("close_session", "0")),
        wait_end=_is_on(given.get("wait_end_of_query", given.get("http_wait_end_of_query", "0"))),
        compress=_is_on(given.get("enable_http_compression", "0")),
        settings=settings,
    )


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart/form-data body, as clickhouse-connect sends long parameters. Raises OptionError."""
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + body)
    if not message.is_multipart():
        raise OptionError("The body is not multipart/form-data with a boundary.")
    fields: dict[str, str] = {}
    for part in message.get_payload():
        if isinstance(part, str) or not hasattr(part, "get_param"):
            continue
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            raise OptionError("External tables are not supported by the embedded front.", NOT_IMPLEMENTED)
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields[name] = payload.decode("utf-8", "replace")
    return fields


def is_trusted_caller(host: str, origin: str | None, fetch_site: str | None = None) -> bool:
    """False for a web page of another site: there are no passwords here, and a browser would send its requests.

    `fetch_site` is Sec-Fetch-Site, which browsers send where they send no Origin: with images, links and forms of GET.
    Programs send neither; "none" is an address that a person typed.
    """
    if (fetch_site or "none").strip().lower() not in ("none", "same-origin"):
        return False
    if origin is None:
        return _is_loopback(host)
    scheme, _, authority = origin.partition("://")
    # "null", which a sandboxed frame sends, has no authority.
    return bool(scheme and authority) and _is_loopback(authority) and _is_loopback(host)


def _is_loopback(authority: str) -> bool:
    name = authority.rpartition(":")[0] if not authority.endswith("]") and ":" in authority else authority
    return name.lower() in ("", "localhost", "127.0.0.1", "[::1]")


def _is_on(value: str) -> bool:
    return value.lower() not in ("", "0", "false")


def _session_idle_s(text: str) -> float:
    if not text:
        return 60.0
    if not text.isdigit() or float(text) > _SESSION_IDLE_S_MAX:
        raise OptionError(f"Invalid session timeout: '{text}'. Ways out: 0 to {_SESSION_IDLE_S_MAX:.0f} seconds.")
    return float(text)
