"""Status codes: their phrases, and what a cache may assume about each (RFC 9110, 15)."""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[int, str] = MappingProxyType(
    {
        100: "Continue",
        101: "Switching Protocols",
        102: "Processing",
        103: "Early Hints",
        200: "OK",
        201: "Created",
        202: "Accepted",
        203: "Non-Authoritative Information",
        204: "No Content",
        205: "Reset Content",
        206: "Partial Content",
        207: "Multi-Status",
        208: "Already Reported",
        226: "IM Used",
        300: "Multiple Choices",
        301: "Moved Permanently",
        302: "Found",
        303: "See Other",
        304: "Not Modified",
        305: "Use Proxy",
        307: "Temporary Redirect",
        308: "Permanent Redirect",
        400: "Bad Request",
        401: "Unauthorized",
        402: "Payment Required",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        406: "Not Acceptable",
        407: "Proxy Authentication Required",
        408: "Request Timeout",
        409: "Conflict",
        410: "Gone",
        411: "Length Required",
        412: "Precondition Failed",
        413: "Content Too Large",
        414: "URI Too Long",
        415: "Unsupported Media Type",
        416: "Range Not Satisfiable",
        417: "Expectation Failed",
        421: "Misdirected Request",
        422: "Unprocessable Content",
        423: "Locked",
        424: "Failed Dependency",
        425: "Too Early",
        426: "Upgrade Required",
        428: "Precondition Required",
        429: "Too Many Requests",
        431: "Request Header Fields Too Large",
        451: "Unavailable For Legal Reasons",
        500: "Internal Server Error",
        501: "Not Implemented",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Gateway Timeout",
        505: "HTTP Version Not Supported",
        506: "Variant Also Negotiates",
        507: "Insufficient Storage",
        508: "Loop Detected",
        510: "Not Extended",
        511: "Network Authentication Required",
    }
)

# May be given a lifetime the origin did not state (RFC 9110, 15.1).
HEURISTIC = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})

# "MUST NOT be stored by a cache", whatever the fields say (RFC 6585, 3 to 6).
NEVER_STORED = frozenset({428, 429, 431, 511})

# Statuses whose caching rules this cache knows and follows, which is what must-understand asks (RFC 9111, 5.2.2.3):
# RFC 9110's final codes, and those of RFC 6585, 7725 and 8470. 206 and 304 have rules of their own, in
# partial_storable and freshen.
UNDERSTOOD = frozenset(
    code for code in REASONS if 200 <= code < 600 and code not in {207, 208, 226, 305, 423, 424, 506, 507, 508, 510}
)

# An origin's failure in the sense of stale-if-error (RFC 5861, 4).
STALE_IF_ERROR = frozenset({500, 502, 503, 504})

# Never carry content, whatever the fields say (RFC 9112, 6.3).
BODILESS = frozenset(range(100, 200)) | {204, 304}


def reason(status: int) -> str:
    """The status' phrase; an empty one, which RFC 9112, 4 allows, for a status without."""
    return REASONS.get(status, "")


def is_final(status: int) -> bool:
    return 200 <= status <= 599


def has_content(method: str, status: int) -> bool:
    """Whether the response to `method` has content, going by the status line alone (RFC 9112, 6.3)."""
    if method == "HEAD" or status in BODILESS:
        return False
    return not (method == "CONNECT" and 200 <= status < 300)
