"""What active probers send, and what they can see of the answer."""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import select
import socket
import ssl
import subprocess
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from circumvent.links.relay import RelayLink
from circumvent.wire.knock import NONCE_SIZE, Knock, KnockKind, seal_knock
from circumvent.wire.websocket_handshake import ClientUpgrade

PAUSE = 0.2  # seconds, long enough for a loopback answer on a busy machine
QUIET = 0.5  # seconds after which nothing more is expected
HOST = "127.0.0.1"
_DATE = re.compile(rb"\r\nDate: [^\r\n]*")

GET = b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
RANDOM = random.Random(7)

ODDITIES: dict[str, Sequence[bytes]] = {
    "a page": [GET],
    "a page that is not there": [GET.replace(b"/ ", b"/nothing ")],
    "two requests at once": [GET + GET],
    "two requests one after the other": [GET, GET],
    "a head in pieces": [GET[:9], GET[9:30], GET[30:]],
    "HEAD": [GET.replace(b"GET", b"HEAD")],
    "POST": [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"],
    "POST without its body": [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"],
    "chunks": [
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ],
    "two lengths": [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    ],
    "length and chunks": [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    ],
    "expect": [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"],
    "HTTP/1.0": [b"GET / HTTP/1.0\r\n\r\n"],
    "HTTP/0.9": [b"GET /\r\n\r\n"],
    "HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)],
    "CONNECT": [b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"],
    "a proxy request": [b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n"],
    "an unknown method": [b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "lower case": [GET.replace(b"GET", b"get")],
    "no host": [b"GET / HTTP/1.1\r\n\r\n"],
    "line feeds": [b"GET / HTTP/1.1\nHost: x\n\n"],
    "a folded header": [b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"],
    "a NUL": [b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n"],
    "an endless header": [b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 12_000 + b"\r\n\r\n"],
    "an endless target": [b"GET /" + b"a" * 12_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    "many headers": [b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n"],
    "noise": [RANDOM.randbytes(600)],
    "noise with an end": [RANDOM.randbytes(600) + b"\r\n\r\n"],
    "half a head": [GET[:20]],
    "nothing": [],
    "a WebSocket": [UPGRADE % b""],
    "a WebSocket and frames": [UPGRADE % b"", b"\x81\x85abcdhello"],
    "a cookie": [UPGRADE % b"Cookie: session=0123456789\r\n"],
    "a guessed knock": [UPGRADE % (b"Cookie: session=" + b"A" * 50 + b"\r\n")],
}


def knocks(link: RelayLink) -> dict[str, Sequence[bytes]]:
    """What a prober sends that recorded knocks, or knows another relay."""
    now = int(time.time())
    other = os.urandom(len(link.knock_key))
    return {
        "the key of another relay": [knock(other, KnockKind.WEBSOCKET, now)],
        "a knock of yesterday": [knock(link.knock_key, KnockKind.WEBSOCKET, now - 86_400)],
        "a knock of tomorrow": [knock(link.knock_key, KnockKind.WEBSOCKET, now + 86_400)],
        "a knock for another channel": [knock(link.knock_key, KnockKind.TLS, now, b"x" * 32)],
        "a knock that asks for no upgrade": [
            knock(link.knock_key, KnockKind.WEBSOCKET, now).replace(b"Upgrade: websocket\r\n", b"")
        ],
        "a knock by POST": [
            knock(link.knock_key, KnockKind.WEBSOCKET, now).replace(b"GET", b"POST", 1)
        ],
    }


def knock(key: bytes, kind: KnockKind, at: int, binding: bytes = b"") -> bytes:
    """A request whose cookie proves that its sender knows ``key``."""
    cookie = seal_knock(key, Knock(kind, at, os.urandom(NONCE_SIZE)), binding)
    return ClientUpgrade("site.test", "/", [("Cookie", cookie)]).request


HELLO = bytes.fromhex("16030100c8010000c40303") + RANDOM.randbytes(196)

UNENCRYPTED: dict[str, Sequence[bytes]] = {
    "plain HTTP": [GET],
    "half a ClientHello": [HELLO[:60]],
    "a broken ClientHello": [HELLO],
    "an empty record": [b"\x16\x03\x01\x00\x00"],
    "an oversized record": [b"\x16\x03\x01\xff\xff" + bytes(600)],
    "an alert": [b"\x15\x03\x01\x00\x02\x02\x28"],
    "SSL 2": [b"\x80\x2e\x01\x00\x02" + bytes(43)],
    "SSH": [b"SSH-2.0-OpenSSH_9.9\r\n"],
    "SOCKS": [b"\x05\x01\x00"],
    "raw noise": [b"\x01" + RANDOM.randbytes(600)],
    "silence": [],
    "plain HTTP of a browser": [GET.replace(b"\r\n\r\n", b"\r\nUser-Agent: Chrome/140\r\n\r\n")],
    "plain HTTP in pieces": [GET[:9], GET[9:30], GET[30:]],
    "half of plain HTTP": [GET[:30]],
    "plain HEAD": [b"HEAD / HTTP/1.0\r\n\r\n"],
    "plain HTTP/0.9": [b"GET /\r\n"],
    "plain HTTP without a host": [b"GET / HTTP/1.1\r\n\r\n"],
    "plain POST": [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"],
    "plain HTTP with a folded header": [b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"],
    "plain HTTP to a page that is not there": [GET.replace(b"/ ", b"/nothing ")],
    "plain HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "plain HTTP/9": [b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"],
    "a plain endless target": [b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n"],
    "a plain endless header": [b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 10_000 + b"\r\n\r\n"],
    "plain TRACE": [b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "plain CONNECT": [b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"],
    "plain BREW": [b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "an unknown coding": [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n"],
    "empty lines": [b"\r\n\r\n"],
    "data before a handshake": [b"\x17\x03\x03\x00\x05hello"],
}

# What a client offers, as arguments of ``openssl s_client``.
OFFERS: dict[str, Sequence[str]] = {
    "nothing": [],
    "TLS 1.2": ["-tls1_2"],
    "TLS 1.1": ["-tls1_1", "-cipher", "ALL@SECLEVEL=0"],
    "TLS 1.0": ["-tls1", "-cipher", "ALL@SECLEVEL=0"],
    **{
        f"{protocols} by {version}": ["-alpn", protocols, version]
        for protocols in ("h2", "foo", "http/1.1", "http/1.0", "http/0.9", "h2,http/1.1", "h3,h2")
        for version in ("-tls1_2", "-tls1_3")
    },
    **{
        f"the group {group}": ["-groups", group]
        for group in ("P-256", "P-384", "P-521", "X25519", "X448", "ffdhe2048", "P-521:X25519")
    },
    **{
        f"the cipher {cipher}": ["-tls1_2", "-cipher", cipher]
        for cipher in (
            "AES128-SHA",
            "ECDHE-ECDSA-AES128-SHA",
            "ECDHE-ECDSA-AES256-SHA384",
            "ECDHE-ECDSA-CAMELLIA128-SHA256",
            "ECDHE-ECDSA-AES128-CCM",
            "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384",
            "NULL:@SECLEVEL=0",
        )
    },
    "another order": ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"],
    "CCM": ["-ciphersuites", "TLS_AES_128_CCM_SHA256"],
    "no signature that fits": ["-sigalgs", "RSA-PSS+SHA256"],
    "no tickets": ["-no_ticket"],
    "no name": ["-noservername"],
}
_TOLD = ("New, ", "Server Temp Key", "ALPN", "No ALPN", "Secure Reneg", "Compression", "Peer sig")
_ALERT = re.compile(r"SSL alert number (\d+)")


def offered(port: int, options: Sequence[str]) -> Sequence[str]:
    """What ``openssl s_client`` says that was agreed, or how it was refused."""
    command = ["openssl", "s_client", "-connect", f"{HOST}:{port}", *options]
    done = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=20)
    text = (done.stdout + done.stderr).decode(errors="replace")
    agreed = [line.strip() for line in text.splitlines() if line.strip().startswith(_TOLD)]
    return [*agreed, *_ALERT.findall(text)]


@dataclass(frozen=True, slots=True)
class Seen:
    """``data`` without dates, which change; ``end`` is how the connection was closed."""

    data: bytes
    end: str


def see(port: int, pieces: Sequence[bytes], *, tls: bool = True, leaves: bool = False) -> Seen:
    """Send pieces, pausing between them; then leave, or wait until nothing more comes."""
    with socket.create_connection((HOST, port), timeout=10) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = wrapped(raw) if tls else raw
        with connection:
            data, end = b"", _send(connection, pieces)
            if leaves and not end:
                time.sleep(PAUSE)  # a prober that leaves before the answer may or may not get one
                raw_end(connection)
            while not end:
                more, end = _receive(connection)
                data += more
    return Seen(_DATE.sub(b"\r\nDate: then", data), end)


def wrapped(raw: socket.socket) -> ssl.SSLSocket:
    """TLS as a prober begins it, without checking the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(raw, suppress_ragged_eofs=False, server_hostname="site.test")


def raw_end(connection: socket.socket) -> None:
    """Half-close the TCP connection below TLS, as a prober that leaves does."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)


def _send(connection: socket.socket, pieces: Sequence[bytes]) -> str:
    """How the connection ended; empty while it is open."""
    try:
        for number, piece in enumerate(pieces):
            if number and _has_closed(connection):
                break
            connection.sendall(piece)
    except OSError as error:
        return _name(error)
    return ""


def _has_closed(connection: socket.socket) -> bool:
    """Whether the server closed before the next piece.

    To send into a closed connection brings a reset, which is seen or not by chance.
    """
    if isinstance(connection, ssl.SSLSocket):
        time.sleep(0.05)
        return False
    readable, _, _ = select.select([connection], [], [], PAUSE)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)


def _receive(connection: socket.socket) -> tuple[bytes, str]:
    connection.settimeout(QUIET)
    try:
        data = connection.recv(65536)
    except TimeoutError:
        return b"", "open"
    except OSError as error:
        return b"", _name(error)
    return data, "" if data else "closed"


def _name(error: OSError) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "cut"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    return type(error).__name__


def answer_seconds(port: int, request: bytes) -> float:
    """From the request to the first byte of its answer."""
    with socket.create_connection((HOST, port), timeout=10) as raw, wrapped(raw) as connection:
        began = time.perf_counter()
        connection.sendall(request)
        connection.recv(65536)
        return time.perf_counter() - began


def patience(port: int, piece: bytes, *, tls: bool) -> float:
    """Seconds until a connection ends on which a byte more comes every few seconds."""
    began = time.monotonic()
    with socket.create_connection((HOST, port)) as raw, wrapped(raw) if tls else raw as connection:
        connection.sendall(piece)
        connection.settimeout(7)
        with contextlib.suppress(OSError):
            while _is_open(connection):
                connection.sendall(b"a")
    return time.monotonic() - began


def _is_open(connection: socket.socket) -> bool:
    """Whether it is still open after a few seconds; received bytes are dropped."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return True
    return False


def same_distribution(one: Sequence[float], other: Sequence[float]) -> float:
    """How probable it is that two samples that differ by as much come from the same place.

    The two-sample test of Kolmogorov and Smirnov, with its asymptotic distribution.
    """
    ranked_one, ranked_other = sorted(one), sorted(other)
    distance = max(
        abs(_share(ranked_one, edge) - _share(ranked_other, edge)) for edge in (*one, *other)
    )
    at = distance * math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    terms = (math.copysign(math.exp(-2 * (k * at) ** 2), k % 2 - 0.5) for k in range(1, 101))
    return min(1.0, 2 * sum(terms))


def _share(ranked: Sequence[float], edge: float) -> float:
    return bisect_right(ranked, edge) / len(ranked)
