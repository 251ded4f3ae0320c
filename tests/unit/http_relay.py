"""A relay's HTTP carriers without the rest of the relay, and a client's end of one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from circumvent.api import Account, ByteStream, CircumventError
from circumvent.layers.exchange import receive_flight, send_flight
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.openssl import accept_tls
from circumvent.links.relay import RelayLink
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.net.sockets import SocketBuffers, prepare
from circumvent.net.tcp import TcpStream
from circumvent.relay.admission import Admission, KnockedConnection
from circumvent.relay.carriers.http_requests import HttpTimings
from circumvent.relay.carriers.http_table import HttpCarrierTable
from circumvent.relay.carriers.pending import PendingCarriers
from circumvent.wire.http_carrier import DOWNLOAD_HEAD
from circumvent.wire.knock import open_knock
from circumvent.wire.request_watch import RequestHead
from circumvent_plugins import fronted_carrier
from circumvent_plugins.fronted_carrier.stream import FrontedStream, FrontTimings
from tests.peers.certificates import Certificate

HOST = "127.0.0.1"
KNOCK_KEY = bytes(16)
TIMINGS = HttpTimings(short_pause=0.002)
FRONT_TIMINGS = FrontTimings(retry=0.01)
BUFFERS = SocketBuffers(send=64 * 1024, receive=64 * 1024)  # so that little data fills them


class HttpRelay:
    """``carriers`` is the table; each new carrier is put into ``streams``.

    ``requests``, ``cookies`` and ``heads`` are those of the requests so far.
    """

    def __init__(self, certificate: Certificate, timings: HttpTimings) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.account = Memory(1 << 22).account("relay")
        self.carriers = HttpCarrierTable(self.account, self._serve_carrier, timings)
        self.pending = PendingCarriers(1 << 26)
        self.streams: asyncio.Queue[ByteStream] = asyncio.Queue()
        self.requests: list[bytes] = []
        self.cookies: list[bytes] = []
        self.heads: list[list[tuple[str, str]]] = []
        self.fail_next = 0  # so many requests are cut before they are answered
        self.empty_next = 0  # so many are answered with a head alone
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def _serve_carrier(self, stream: ByteStream) -> None:
        await self.streams.put(stream)
        await self._over.wait()

    async def run(self, listener: socket.socket, *, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            task = loop.create_task(self._serve_connection(sock, tls=tls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve_connection(self, sock: socket.socket, *, tls: bool) -> None:
        prepare(sock, BUFFERS)
        stream: ByteStream = TcpStream(sock)
        try:
            if tls:
                stream = await accept_tls(stream, self.context)
            await self._answer(stream)
        except (CircumventError, TimeoutError):
            pass
        finally:
            stream.abort()

    async def _answer(self, stream: ByteStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await receive_flight(stream)
        head, _, early = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
        self.requests.append(first)
        self.cookies.append(headers[b"cookie"])
        fields = (line.decode().partition(": ") for line in lines)
        self.heads.append([(name, value) for name, _, value in fields])
        if self.fail_next:
            self.fail_next -= 1
            return
        if self.empty_next:
            self.empty_next -= 1
            await send_flight(stream, DOWNLOAD_HEAD)
            await stream.aclose()
            return
        knock = open_knock(KNOCK_KEY, headers[b"cookie"], b"")
        assert knock is not None
        method = first.partition(b" ")[0]
        admission = Admission(knock, RequestHead(method, b"/", headers), early)
        with self.pending.place(HOST) as place:
            await self.carriers.serve(KnockedConnection(stream, HOST, b"", admission), place)

    def release(self) -> None:
        """End all carriers."""
        self._over.set()

    async def close(self) -> None:
        self.release()
        await self.carriers.aclose()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def http_relay(
    certificate: Certificate, timings: HttpTimings = TIMINGS, *, tls: bool = True
) -> AsyncIterator[tuple[HttpRelay, int]]:
    """A running relay and its port."""
    relay = HttpRelay(certificate, timings)
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        running = asyncio.ensure_future(relay.run(listener, tls=tls))
        try:
            yield relay, listener.getsockname()[1]
        finally:
            running.cancel()
            await relay.close()
            await asyncio.wait([running])
    assert (relay.account.leased, relay.account.charged) == (0, 0)


def link_to(port: int, certificate: Certificate) -> RelayLink:
    """A link whose pin is that of the certificate."""
    parsed = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
    key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RelayLink(HOST, port, KNOCK_KEY, bytes(16), (sha256(key).digest(),), path="/site")


def open_stream(link: RelayLink, account: Account, *, is_short: bool = False) -> FrontedStream:
    """The client's end, without TLS inside."""
    connect = partial(fronted_carrier.connect_front, link, NetDialer(TlsClient(), BUFFERS), account)
    return FrontedStream(connect, is_short=is_short, timings=FRONT_TIMINGS)
