"""TLS: whom we trust, what we remember, and the ways in which a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from circumvent.api import (
    ByteStream,
    HandshakeError,
    LayerStream,
    PeekStream,
    ProtocolError,
    SecureStream,
    TlsOptions,
)
from circumvent.net.tcp import TcpStream
from circumvent.net.tls import TlsClient
from tests.conformance.byte_stream import Pair, both, read_all, read_exactly, settle, take
from tests.conformance.codecs import TlsCodec
from tests.conformance.far_end import Codec, FarEnd, connected
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate

RECEIVE_BUFFER = 256 * 1024
WRONG = bytes(32)
SO_MEMINFO = 55
WMEM_ALLOC, SNDBUF = 2, 3  # linux/sock_diag.h: SK_MEMINFO_*


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


async def shake_hands(peer: FarEnd) -> None:
    try:
        await peer.shake_hands()
    except ssl.SSLError:
        peer.close()  # as servers do
        raise


class Server:
    """Accepts one connection after another with the same context, so that it knows sessions."""

    def __init__(self, certificate: Certificate, over: Callable[[PeekStream], ByteStream]) -> None:
        self.over = over
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.pairs: list[Pair] = []

    async def connect(self, client: TlsClient, options: TlsOptions) -> Pair:
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        return await self.connect_over(near, far, client, options)

    async def connect_over(
        self, near: socket.socket, far: socket.socket, client: TlsClient, options: TlsOptions
    ) -> Pair:
        peer = FarEnd(far, TlsCodec(self.context))
        shaking = asyncio.create_task(shake_hands(peer))
        try:
            stream = await client.start(self.over(TcpStream(near)), options)
            await shaking
        except BaseException:
            shaking.cancel()
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
                await shaking
            peer.close()
            raise
        self.pairs.append(Pair(stream, peer))
        return self.pairs[-1]

    def codec(self) -> TlsCodec:
        codec = self.pairs[-1].far.codec
        assert isinstance(codec, TlsCodec)
        return codec


@pytest.fixture(params=["on the socket", "in memory"])
def over(request: pytest.FixtureRequest) -> Callable[[PeekStream], ByteStream]:
    """What TLS goes over; the engines differ, and nothing that a user sees."""
    return (lambda tcp: tcp) if request.param == "on the socket" else LayerStream


@pytest.fixture
async def server(
    certificate: Certificate, over: Callable[[PeekStream], ByteStream]
) -> AsyncIterator[Server]:
    server = Server(certificate, over)
    yield server
    for pair in server.pairs:
        pair.near.abort()
        pair.far.close()


@pytest.fixture
def client(certificate: Certificate) -> TlsClient:
    return TlsClient(str(certificate.authority))


def digests(certificate: Certificate) -> tuple[bytes, bytes]:
    """SHA-256 of the certificate and of its public key."""
    parsed = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
    key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    whole = parsed.public_bytes(Encoding.DER)
    return hashlib.sha256(whole).digest(), hashlib.sha256(key).digest()


class TestTrust:
    async def test_an_unknown_authority_is_refused(self, server: Server) -> None:
        with pytest.raises(HandshakeError, match="certificate is not valid") as caught:
            await server.connect(TlsClient(), TlsOptions(SERVER_NAME))
        assert caught.value.errno is None, "the code of an SSLError is not the system's"

    async def test_another_name_is_refused(self, server: Server, client: TlsClient) -> None:
        with pytest.raises(HandshakeError, match=r"not valid for 'other\.test'"):
            await server.connect(client, TlsOptions("other.test"))

    async def test_no_verification_when_asked_by_name(self, server: Server) -> None:
        await server.connect(TlsClient(), TlsOptions("other.test", verify=False))

    async def test_a_pinned_certificate_needs_no_authority(
        self, server: Server, certificate: Certificate
    ) -> None:
        pin, _ = digests(certificate)
        await server.connect(TlsClient(), TlsOptions("x", certificate_sha256=(WRONG, pin)))

    async def test_a_pinned_key_needs_no_authority(
        self, server: Server, certificate: Certificate
    ) -> None:
        _, pin = digests(certificate)
        await server.connect(TlsClient(), TlsOptions("x", spki_sha256=(WRONG, pin)))

    @pytest.mark.parametrize(
        "options",
        [
            TlsOptions(SERVER_NAME, certificate_sha256=(WRONG,)),
            TlsOptions(SERVER_NAME, spki_sha256=(WRONG,)),
            TlsOptions(SERVER_NAME, spki_sha256=(WRONG,), verify=False),
        ],
    )
    async def test_a_wrong_pin_is_refused_though_the_authority_is_known(
        self, server: Server, client: TlsClient, options: TlsOptions
    ) -> None:
        with pytest.raises(HandshakeError, match="not the pinned one"):
            await server.connect(client, options)

    async def test_without_sni_the_name_is_verified_all_the_same(
        self, server: Server, client: TlsClient
    ) -> None:
        names: list[str | None] = []
        server.context.sni_callback = lambda _, name, __: names.append(name)
        await server.connect(client, TlsOptions(SERVER_NAME, send_name=False))
        assert names == [None]
        with pytest.raises(HandshakeError, match="for another name"):
            await server.connect(client, TlsOptions("other.test", send_name=False))

    async def test_a_wildcard_covers_one_label(self, tmp_path: Path, server: Server) -> None:
        wildcard = make_certificate(tmp_path, "*.far.test")
        server.context.load_cert_chain(wildcard.chain, wildcard.key)
        client = TlsClient(str(wildcard.authority))
        await server.connect(client, TlsOptions("site.far.test", send_name=False))
        with pytest.raises(HandshakeError, match="for another name"):
            await server.connect(client, TlsOptions("a.site.far.test", send_name=False))

    async def test_a_server_that_lacks_tls_13_is_refused_where_that_is_asked(
        self, server: Server, client: TlsClient
    ) -> None:
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(HandshakeError, match="TLS handshake failed"):
            await server.connect(client, TlsOptions(SERVER_NAME, only_tls13=True))


class TestChannelBinding:
    async def test_both_ends_know_it_and_no_other_channel_has_it(
        self, server: Server, client: TlsClient
    ) -> None:
        seen = set()
        for resumed in (False, True, True):
            pair = await server.connect(client, TlsOptions(SERVER_NAME, only_tls13=True))
            assert isinstance(pair.near, SecureStream)
            binding = pair.near.channel_binding()
            assert server.codec().tls.get_channel_binding() == binding
            assert server.codec().tls.session_reused is resumed
            seen.add(binding)
            await pair.far.send(b"x")
            assert await read_exactly(pair.near, 1) == b"x"
            await pair.near.aclose()
        assert len(seen) == 3


class TestHandshake:
    async def test_alpn_is_offered(self, server: Server, client: TlsClient) -> None:
        await server.connect(client, TlsOptions(SERVER_NAME, alpn=("http/1.1",)))
        assert server.codec().tls.selected_alpn_protocol() == "http/1.1"

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_the_second_connection_resumes(
        self, server: Server, client: TlsClient, version: ssl.TLSVersion
    ) -> None:
        server.context.maximum_version = version
        for resumed in (False, True):
            pair = await server.connect(client, TlsOptions(SERVER_NAME))
            assert server.codec().tls.session_reused is resumed
            await pair.far.send(b"x")
            assert await read_exactly(pair.near, 1) == b"x"
            await pair.near.aclose()

    async def test_on_another_network_nothing_reminds_of_the_last_one(
        self, server: Server, client: TlsClient
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))
        await pair.far.send(b"x")
        await read_exactly(pair.near, 1)
        await pair.near.aclose()
        client.forget()
        await server.connect(client, TlsOptions(SERVER_NAME))
        assert not server.codec().tls.session_reused

    async def test_a_session_is_not_offered_under_other_terms(
        self, server: Server, client: TlsClient
    ) -> None:
        unverified = await server.connect(client, TlsOptions(SERVER_NAME, verify=False))
        await unverified.far.send(b"x")
        await read_exactly(unverified.near, 1)
        await unverified.near.aclose()
        await server.connect(client, TlsOptions(SERVER_NAME))
        assert not server.codec().tls.session_reused

    async def test_a_reset_is_reported_as_one(
        self, client: TlsClient, over: Callable[[PeekStream], ByteStream]
    ) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        starting = asyncio.create_task(client.start(over(TcpStream(near)), TlsOptions(SERVER_NAME)))
        await asyncio.sleep(0.01)
        FarEnd(far, TlsCodec(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))).reset()
        with pytest.raises(HandshakeError) as caught:
            await starting
        assert caught.value.errno == errno.ECONNRESET

    async def test_a_cancelled_handshake_closes_the_connection(
        self, client: TlsClient, over: Callable[[PeekStream], ByteStream]
    ) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        starting = asyncio.create_task(client.start(over(TcpStream(near)), TlsOptions(SERVER_NAME)))
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        hello = FarEnd(far, Codec())
        with pytest.raises(ConnectionResetError):
            await hello.receive_all()
        hello.close()


class TestEnds:
    async def test_a_cut_without_goodbye_is_an_end(self, server: Server, client: TlsClient) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))
        await pair.far.send(b"the last words")
        pair.far.cut()
        assert await read_all(pair.near) == b"the last words"

    async def test_a_forged_record_is_a_protocol_error(
        self, server: Server, client: TlsClient
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))
        wire = bytearray(pair.far.codec.seal(bytes(100)))
        wire[-1] ^= 1
        await pair.far.send_wire(bytes(wire))
        with pytest.raises(ProtocolError, match="TLS"):
            await read_all(pair.near)

    async def test_a_goodbye_waits_until_the_kernel_has_room(
        self, server: Server, client: TlsClient
    ) -> None:
        near, far = socket.socketpair()  # tells exactly when it is full
        near.setblocking(False)
        descriptor = near.fileno()
        pair = await server.connect_over(near, far, client, TlsOptions(SERVER_NAME))
        written = 0
        while not is_full(descriptor):
            written += take(pair.near, bytes(400))
        assert pair.near.flush()
        pair.near.write_eof()
        assert pair.near.unsent is not None
        _, received = await both(settle(pair.near), pair.far.receive_all())
        assert received == bytes(written)
        assert server.codec().ended

    async def test_a_goodbye_for_which_descriptors_are_short_leaks_none(
        self, server: Server, client: TlsClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))

        def fail() -> None:
            raise OSError(errno.EMFILE, "none left")

        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - only their number counts
        with monkeypatch.context() as patch:
            patch.setattr("socket.socketpair", fail)
            pair.near.write_eof()
        assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208 - as above


def is_full(descriptor: int) -> bool:
    """Whether the kernel takes nothing more for this socket."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        info = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))
    return bool(info[WMEM_ALLOC] >= info[SNDBUF])
