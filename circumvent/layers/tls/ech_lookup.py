"""TLS whose key for the encrypted greeting (ECH) is looked up, at a name server over HTTPS.

RFC 9848 has it in HTTPS records, RFC 8484 the questions. In clear nobody is asked: the question
would tell who asks, and anybody could answer it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from functools import partial

from circumvent.api.cost import Cost
from circumvent.api.dialer import Dialer
from circumvent.api.layer import Dial, Layer
from circumvent.api.streams import SecureStream
from circumvent.api.tls import TlsOptions
from circumvent.errors import HandshakeError, LinkError, RemoteError
from circumvent.layers.costs import TLS_COST
from circumvent.layers.exchange import receive_flight, send_flight
from circumvent.layers.tls.layer import TlsLayer

KEPT = 3600.0  # seconds; large CDNs change their keys every hour and keep the last ones
PATIENCE = 10.0  # seconds for one question
MAX_ANSWER = 16 * 1024  # bytes, with the head
_TYPE = "application/dns-message"
_PADDING = 128  # bytes: RFC 8467 §4.1
_HEAD_END = b"\r\n\r\n"
_OK = re.compile(rb"HTTP/1\.[01] 200\b")
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,5})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EchSource:
    """Whose HTTPS record has the key, and the name server that is asked for it."""

    name: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as URLs have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """As it stands in a link."""
        return f"{self.name}+https://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class EchLookupLayer(Layer):
    """TLS to a server, once the key is known; ``through`` says how to get it."""

    options: TlsOptions
    source: EchSource
    dialer: Dialer | None = None

    @property
    def cost(self) -> Cost:
        return TLS_COST

    def through(self, dialer: Dialer) -> Layer:
        return replace(self, dialer=dialer)

    def over(self, dial: Dial) -> Dial:
        if self.dialer is None:
            raise LinkError("ech: nobody can be asked for the key here; use a link with the key")
        return _EchDial(self, self.dialer, dial).start


class _EchDial:
    """Dials with the key that was looked up last."""

    def __init__(self, layer: EchLookupLayer, dialer: Dialer, dial: Dial) -> None:
        self._layer, self._dialer, self._dial = layer, dialer, dial
        self._key = b""
        self._is_old_at = 0.0

    async def start(self) -> SecureStream:
        """Raises HandshakeError, also when nobody tells the key."""
        now = asyncio.get_running_loop().time()
        if not self._key or now >= self._is_old_at:
            self._key = await look_up(self._layer.source, self._dialer)
            self._is_old_at = now + KEPT
        return await TlsLayer(replace(self._layer.options, ech=self._key)).dial(self._dial)


async def look_up(source: EchSource, dialer: Dialer, patience: float = PATIENCE) -> bytes:
    """The ECHConfigList in the HTTPS record of ``source.name``; raises HandshakeError.

    ``patience`` is in seconds.
    """
    try:
        async with asyncio.timeout(patience):
            return read_key(await _ask(source, dialer))
    except TimeoutError:
        raise _failure("the name server does not answer") from None
    except (RemoteError, ValueError) as error:
        raise _failure(str(error)) from error


async def _ask(source: EchSource, dialer: Dialer) -> bytes:
    """The answer of the name server, as it is in its body; raises RemoteError, ValueError."""
    layer = TlsLayer(TlsOptions(source.host, alpn=("http/1.1",)))
    stream = await layer.dial(partial(dialer.tcp, source.host, source.port))
    try:
        await send_flight(stream, _request(source))
        received, body = b"", None
        while body is None:
            piece = await receive_flight(stream)
            received += piece
            if not piece or len(received) > MAX_ANSWER:
                raise ValueError("the name server's answer is cut, or too long")
            body = _body(received)
        return body
    finally:
        await stream.aclose()


def _request(source: EchSource) -> bytes:
    """RFC 8484 §4.1: a POST with the question, whose id is 0."""
    # Not at import: heavy.
    from dns.message import make_query  # noqa: PLC0415

    question = make_query(source.name, "HTTPS", use_edns=0, pad=_PADDING, id=0).to_wire()
    lines = (
        f"POST {source.path} HTTP/1.1",
        f"Host: {source.authority}",
        f"Content-Length: {len(question)}",
        f"Content-Type: {_TYPE}",
        f"Accept: {_TYPE}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + _HEAD_END + question


def _body(received: bytes) -> bytes | None:
    """None until it is whole; raises ValueError when the server answers something else."""
    head, end, body = received.partition(_HEAD_END)
    if not end:
        return None
    length = _LENGTH.search(head + b"\r\n")
    if not _OK.match(head) or length is None:
        raise ValueError("the name server does not answer questions over HTTPS there")
    size = int(length[1])
    return body[:size] if len(body) >= size else None


def read_key(message: bytes) -> bytes:
    """The ECHConfigList in a DNS message; raises ValueError when there is none."""
    # Not at import: heavy.
    from dns.exception import DNSException  # noqa: PLC0415
    from dns.message import from_wire  # noqa: PLC0415
    from dns.rdatatype import HTTPS  # noqa: PLC0415
    from dns.rdtypes.svcbbase import ECHParam, ParamKey  # noqa: PLC0415

    try:
        records = from_wire(message).answer
    except DNSException as error:
        raise ValueError("the name server's answer is malformed") from error
    for record in (each for records_of in records for each in records_of):
        if record.rdtype == HTTPS:
            key = record.params.get(ParamKey.ECH)
            if isinstance(key, ECHParam):
                return bytes(key.ech)
    raise ValueError("the name server knows no key")


def _failure(why: str) -> HandshakeError:
    return HandshakeError(f"ech: the key could not be looked up: {why}", stage="tls")
