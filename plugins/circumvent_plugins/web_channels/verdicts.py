"""What a failure on the web means to a user."""

from __future__ import annotations

import re
from collections.abc import Mapping

from circumvent.api import (
    ChannelError,
    CircumventError,
    DialError,
    HandshakeError,
    ProtocolError,
    StreamResetError,
    Verdict,
)

_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|title|!--)", re.IGNORECASE)
_MISSING = (404, 410)
_MISDIRECTED = 421  # RFC 9110 §15.5.20: this certificate and that host do not go together
# How CDNs look when they answer themselves: what they add to the head, what stands in the body.
_CDN_HEADERS = {
    "x-amz-cf-id": "CloudFront",
    "cf-ray": "Cloudflare",
    "x-azure-ref": "Azure",
    "x-served-by": "Fastly",
}
_CDN_SERVERS = {"cloudfront": "CloudFront", "cloudflare": "Cloudflare", "akamaighost": "Akamai"}
_CDN_BODIES = {
    b"Fastly error: unknown domain": "Fastly",
    b"Direct IP access not allowed": "Cloudflare",
    b"The request could not be satisfied": "CloudFront",
    b"Our services aren't available right now": "Azure",
    b"Invalid URL": "Akamai",
}
_CDN_STATUSES = (400, 403, 409, 500, 503, 530)


def is_web_page(body: bytes | bytearray) -> bool:
    """Whether this is HTML, which no bundle or list of links starts like."""
    return _HTML.match(body) is not None


def explain(error: Exception) -> ChannelError:
    """What an error of the session means; a local error is raised as it is."""
    match error:
        case TimeoutError():
            return ChannelError(Verdict.TOO_SLOW)
        case HandshakeError() | StreamResetError():
            return ChannelError(Verdict.BLOCKED, str(error), errno=error.errno)
        case DialError():
            return ChannelError(Verdict.UNREACHABLE, str(error), errno=error.errno)
        case ProtocolError():
            return ChannelError(Verdict.BROKEN, str(error))
        case CircumventError():
            raise error
    return _explain_http(error)


def _explain_http(error: Exception) -> ChannelError:
    from aiohttp import ClientError, ClientResponseError, InvalidURL  # noqa: PLC0415 - heavy

    if isinstance(error, InvalidURL):
        return ChannelError(Verdict.BROKEN, "it leads to what is no URL")
    if isinstance(error, ClientResponseError):
        return ChannelError(Verdict.BROKEN, "the server does not speak HTTP")
    if isinstance(error, ClientError):
        return ChannelError(Verdict.BLOCKED, "the connection was cut")
    raise error


def refusal(status: int) -> ChannelError:
    """A server's own "no"."""
    verdict = Verdict.NOT_FOUND if status in _MISSING else Verdict.REFUSED
    return ChannelError(verdict, f"HTTP {status}")


def front_refusal(status: int, headers: Mapping[str, str], body: bytes) -> ChannelError:
    """The "no" of a front or, when it passed the request on, of the hidden host.

    Either came inside verified TLS: no censor wrote it.
    """
    cdn = _cdn(status, headers, body)
    if cdn or status == _MISDIRECTED:
        detail = f"the front does not pass hidden hosts on: HTTP {status}"
        return ChannelError(Verdict.REFUSED, f"{detail} by {cdn}" if cdn else detail)
    return refusal(status)


def _cdn(status: int, headers: Mapping[str, str], body: bytes) -> str:
    by_body = next((name for text, name in _CDN_BODIES.items() if text in body), "")
    if by_body or status not in _CDN_STATUSES:
        return by_body
    by_header = next((name for key, name in _CDN_HEADERS.items() if key in headers), "")
    server = headers.get("Server", "").lower()
    return by_header or next((name for key, name in _CDN_SERVERS.items() if key in server), "")
