"""TLS: whom we trust, what we remember, and the ways in which a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
    TlsEngine,
    TlsOptions,
)
from circumvent.errors import BudgetError, OldTlsError
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.context import CONTEXT_WITH_FILE, MAX_CONTEXTS, ClientRoles
from circumvent.layers.tls.old_servers import OldServers
from circumvent.layers.tls.openssl import OpenSslClient, accept_tls
from circumvent.layers.tls.tickets import EACH
from circumvent.memory import Memory
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import Codec, FarEnd, connected
from circumvent.testing.steps import GIVE_UP_AFTER, Pair, both, read_all, read_exactly, settle, take
from tests.conformance.codecs import TlsCodec
from tests.peers.certificates import SERVER_NAME, Certificate, make_certificate

RECEIVE_BUFFER = 256 * 1024
WRONG = bytes(32)
Engine = type[TlsClient | OpenSslClient]
SO_MEMINFO = 55
WMEM_ALLOC, SNDBUF = 2, 3  # linux/sock_diag.h: SK_MEMINFO_*


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
        self.context.num_tickets = 1  # of several, OpenSSL shows a client the last one only
        self.pairs: list[Pair] = []
        self.listener = socket.create_server(("127.0.0.1", 0))

    async def connect(self, client: TlsEngine, options: TlsOptions) -> Pair:
        near = socket.create_connection(self.listener.getsockname())
        far, _ = self.listener.accept()
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near.setblocking(False)
        return await self.connect_over(near, far, client, options)

    async def visit(self, client: TlsEngine, options: TlsOptions) -> bool:
        """A whole connection, in which a ticket comes; whether it was resumed by another one."""
        pair = await self.connect(client, options)
        await self.leave(pair)
        return self.codec().tls.session_reused or False

    async def leave(self, pair: Pair) -> None:
        await pair.far.send(b"x")
        assert await read_exactly(pair.near, 1) == b"x"
        await pair.near.aclose()

    async def connect_over(
        self, near: socket.socket, far: socket.socket, client: TlsEngine, options: TlsOptions
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

    def forget_all(self) -> None:
        """Keep nothing of the connections so far."""
        for pair in self.pairs:
            pair.near.abort()
            pair.far.close()
        self.pairs.clear()

    def codec(self) -> TlsCodec:
        codec = self.pairs[-1].far.codec
        assert isinstance(codec, TlsCodec)
        return codec


@pytest.fixture(params=["on the socket", "in memory"])
def over(request: pytest.FixtureRequest) -> Callable[[PeekStream], ByteStream]:
    """What TLS goes over; the engines differ, and nothing that a user sees."""
    return (lambda tcp: tcp) if request.param == "on the socket" else LayerStream


@asynccontextmanager
async def serving(
    certificate: Certificate, over: Callable[[PeekStream], ByteStream]
) -> AsyncIterator[Server]:
    server = Server(certificate, over)
    yield server
    server.listener.close()
    for pair in server.pairs:
        pair.near.abort()
        pair.far.close()


@pytest.fixture
async def server(
    certificate: Certificate, over: Callable[[PeekStream], ByteStream]
) -> AsyncIterator[Server]:
    async with serving(certificate, over) as server:
        yield server


@pytest.fixture(params=[TlsClient, OpenSslClient], ids=["ours", "openssl"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Both keep the same promises; OpenSSL serves where a server speaks no TLS 1.3."""
    made: Engine = request.param
    return made


@pytest.fixture
def client(engine: Engine, certificate: Certificate) -> TlsEngine:
    return engine(str(certificate.authority))


@pytest.fixture
def stranger(engine: Engine) -> TlsEngine:
    """Trusts no authority but those of the system."""
    return engine()


def digests(certificate: Certificate) -> tuple[bytes, bytes]:
    """SHA-256 of the certificate and of its public key."""
    parsed = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
    key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    whole = parsed.public_bytes(Encoding.DER)
    return hashlib.sha256(whole).digest(), hashlib.sha256(key).digest()


class TestTrust:
    async def test_an_unknown_authority_is_refused(
        self, server: Server, stranger: TlsEngine
    ) -> None:
        with pytest.raises(HandshakeError, match="certificate is not valid") as caught:
            await server.connect(stranger, TlsOptions(SERVER_NAME))
        assert caught.value.errno is None, "the code of an SSLError is not the system's"

    async def test_another_name_is_refused(self, server: Server, client: TlsEngine) -> None:
        with pytest.raises(HandshakeError, match=r"not valid.* for (another name|'other\.test')"):
            await server.connect(client, TlsOptions("other.test"))

    async def test_no_verification_when_asked_by_name(
        self, server: Server, stranger: TlsEngine
    ) -> None:
        await server.connect(stranger, TlsOptions("other.test", verify=False))

    async def test_a_pinned_certificate_needs_no_authority(
        self, server: Server, stranger: TlsEngine, certificate: Certificate
    ) -> None:
        pin, _ = digests(certificate)
        await server.connect(stranger, TlsOptions("x", certificate_sha256=(WRONG, pin)))

    async def test_a_pinned_key_needs_no_authority(
        self, server: Server, stranger: TlsEngine, certificate: Certificate
    ) -> None:
        _, pin = digests(certificate)
        await server.connect(stranger, TlsOptions("x", spki_sha256=(WRONG, pin)))

    @pytest.mark.parametrize(
        "options",
        [
            TlsOptions(SERVER_NAME, certificate_sha256=(WRONG,)),
            TlsOptions(SERVER_NAME, spki_sha256=(WRONG,)),
            TlsOptions(SERVER_NAME, spki_sha256=(WRONG,), verify=False),
        ],
    )
    async def test_a_wrong_pin_is_refused_though_the_authority_is_known(
        self, server: Server, client: TlsEngine, options: TlsOptions
    ) -> None:
        with pytest.raises(HandshakeError, match="not the pinned one"):
            await server.connect(client, options)

    async def test_without_sni_the_name_is_verified_all_the_same(
        self, server: Server, client: TlsEngine
    ) -> None:
        names: list[str | None] = []
        server.context.sni_callback = lambda _, name, __: names.append(name)
        await server.connect(client, TlsOptions(SERVER_NAME, send_name=False))
        assert names == [None]
        with pytest.raises(HandshakeError, match="for another name"):
            await server.connect(client, TlsOptions("other.test", send_name=False))

    async def test_the_certificate_may_have_to_be_for_other_names_than_the_one_that_is_sent(
        self, server: Server, client: TlsEngine
    ) -> None:
        names: list[str | None] = []
        server.context.sni_callback = lambda _, name, __: names.append(name)
        wanted = TlsOptions("front.test", certificate_names=("other.test", SERVER_NAME))
        await server.connect(client, wanted)
        assert names == ["front.test"]
        with pytest.raises(HandshakeError, match="for another name"):
            await server.connect(client, TlsOptions(SERVER_NAME, certificate_names=("other.test",)))

    async def test_a_wildcard_covers_one_label(
        self, tmp_path: Path, engine: Engine, server: Server
    ) -> None:
        wildcard = make_certificate(tmp_path, "*.far.test")
        server.context.load_cert_chain(wildcard.chain, wildcard.key)
        client = engine(str(wildcard.authority))
        await server.connect(client, TlsOptions("site.far.test", send_name=False))
        with pytest.raises(HandshakeError, match="for another name"):
            await server.connect(client, TlsOptions("a.site.far.test", send_name=False))

    async def test_a_server_that_lacks_tls_13_is_refused_where_that_is_asked(
        self, server: Server, client: TlsEngine
    ) -> None:
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(HandshakeError, match="speaks no TLS"):
            await server.connect(client, TlsOptions(SERVER_NAME, only_tls13=True))

    def test_its_client_hello_is_the_same_with_and_without_tls_13_only(self) -> None:
        lengths = {
            len(greeting(TlsOptions(SERVER_NAME, only_tls13=only)))
            for only in (False, True)
            for _ in range(3)
        }
        assert len(lengths) == 1


def greeting(options: TlsOptions) -> bytes:
    """The ClientHello: versions and suites of its own would make it longer or shorter."""
    role, heard, said = ClientRoles().role(options, ""), ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = role.context.wrap_bio(heard, said, server_hostname=role.server_name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return said.read()


class TestChannelBinding:
    async def test_both_ends_have_the_same_binding_and_no_other_channel_has_it(
        self, server: Server, client: TlsEngine
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
    async def test_alpn_is_offered(self, server: Server, client: TlsEngine) -> None:
        await server.connect(client, TlsOptions(SERVER_NAME, alpn=("http/1.1",)))
        assert server.codec().tls.selected_alpn_protocol() == "http/1.1"

    async def test_the_second_connection_resumes(self, server: Server, client: TlsEngine) -> None:
        visits = [await server.visit(client, TlsOptions(SERVER_NAME)) for _ in range(2)]
        assert visits == [False, True]

    async def test_openssl_resumes_with_tls_12_too(
        self, server: Server, certificate: Certificate
    ) -> None:
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
        client = OpenSslClient(str(certificate.authority))
        visits = [await server.visit(client, TlsOptions(SERVER_NAME)) for _ in range(2)]
        assert visits == [False, True]

    async def test_a_server_without_tls_13_is_left_to_openssl_from_the_next_connection_on(
        self, server: Server, certificate: Certificate
    ) -> None:
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
        old = OldServers()
        client = TlsClient(str(certificate.authority), old=old)
        with pytest.raises(OldTlsError, match="speaks no TLS"):
            await server.connect(client, TlsOptions(SERVER_NAME))
        await server.connect(client, TlsOptions(SERVER_NAME))
        assert server.codec().tls.version() == "TLSv1.2"
        assert len(old.warnings) == 1
        assert old.warnings[0].startswith(f"{SERVER_NAME} speaks no TLS 1.3: OpenSSL")

    async def test_a_reset_is_reported_as_one(
        self, client: TlsEngine, over: Callable[[PeekStream], ByteStream]
    ) -> None:
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        starting = asyncio.create_task(client.start(over(TcpStream(near)), TlsOptions(SERVER_NAME)))
        await asyncio.sleep(0.01)
        FarEnd(far, TlsCodec(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))).reset()
        with pytest.raises(HandshakeError) as caught:
            await starting
        assert caught.value.errno == errno.ECONNRESET

    async def test_a_cancelled_handshake_closes_the_connection(
        self, client: TlsEngine, over: Callable[[PeekStream], ByteStream]
    ) -> None:
        hello = await cancelled_handshake(client, over)
        with contextlib.suppress(ConnectionResetError):
            await hello.receive_all()
        hello.close()

    async def test_one_on_a_socket_ends_in_order(self, client: TlsEngine) -> None:
        hello = await cancelled_handshake(client, lambda tcp: tcp)
        assert await hello.receive_all()
        hello.close()


async def cancelled_handshake(
    client: TlsEngine, over: Callable[[PeekStream], ByteStream]
) -> FarEnd:
    """What the other end has then."""
    near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
    starting = asyncio.create_task(client.start(over(TcpStream(near)), TlsOptions(SERVER_NAME)))
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    return FarEnd(far, Codec())


class TestTickets:
    async def test_each_is_offered_once(self, server: Server, client: TlsEngine) -> None:
        await server.visit(client, TlsOptions(SERVER_NAME))
        for resumes in (True, False):
            await server.connect(client, TlsOptions(SERVER_NAME))
            assert server.codec().tls.session_reused is resumes

    async def test_one_is_kept_once_though_its_connection_is_closed_twice(
        self, server: Server, client: TlsEngine
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))
        await server.leave(pair)
        await pair.near.aclose()
        for resumes in (True, False):
            await server.connect(client, TlsOptions(SERVER_NAME))
            assert server.codec().tls.session_reused is resumes

    async def test_a_chain_of_visits_uses_a_new_one_each_time(
        self, server: Server, client: TlsEngine
    ) -> None:
        visits = [await server.visit(client, TlsOptions(SERVER_NAME)) for _ in range(4)]
        assert visits == [False, True, True, True]

    async def test_several_are_kept_but_not_any_number(
        self, server: Server, client: TlsEngine
    ) -> None:
        pairs = [await server.connect(client, TlsOptions(SERVER_NAME)) for _ in range(EACH + 1)]
        for pair in pairs:
            await server.leave(pair)
        for resumes in (True,) * EACH + (False,):
            await server.connect(client, TlsOptions(SERVER_NAME))
            assert server.codec().tls.session_reused is resumes

    async def test_of_too_many_servers_the_oldest_is_forgotten(
        self,
        server: Server,
        client: TlsEngine,
        certificate: Certificate,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for module in ("tickets", "tls13_tickets"):
            monkeypatch.setattr(f"circumvent.layers.tls.{module}.MOST", 2)
        pin, _ = digests(certificate)
        terms = [TlsOptions(SERVER_NAME, certificate_sha256=(pin,) * times) for times in (1, 2, 3)]
        for options in terms:
            await server.visit(client, options)
        assert [await server.visit(client, options) for options in reversed(terms)] == [
            True,
            True,
            False,
        ]

    async def test_links_that_want_ever_other_terms_fill_no_memory(
        self, server: Server, certificate: Certificate
    ) -> None:
        account = Memory(64 << 20).account("contexts")
        client = OpenSslClient(str(certificate.authority), account)
        charged = []  # the first comes with the code, so the second tells what one costs
        for number in range(2 * MAX_CONTEXTS):
            options = TlsOptions(SERVER_NAME, alpn=(f"x{number}",))
            assert not await server.visit(client, options)
            assert await server.visit(client, options)
            server.forget_all()
            charged.append(account.charged)
        gc.collect()
        assert 0 < account.charged <= MAX_CONTEXTS * charged[1]

    async def test_beyond_what_is_paid_for_there_are_no_further_terms(
        self, server: Server, certificate: Certificate
    ) -> None:
        account = Memory(4 << 20).account("contexts", limit=CONTEXT_WITH_FILE)
        client = OpenSslClient(str(certificate.authority), account)
        options = [TlsOptions(SERVER_NAME, alpn=(f"x{number}",)) for number in range(3)]
        for wanted in options[:2]:  # one comes with the code
            await server.connect(client, wanted)
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        with far, pytest.raises(BudgetError):
            await client.start(server.over(TcpStream(near)), options[2])
        assert near.fileno() < 0
        server.forget_all()
        gc.collect()
        await server.connect(client, options[2])

    async def test_none_reminds_of_another_network(self, server: Server, client: TlsEngine) -> None:
        staying = await server.connect(client, TlsOptions(SERVER_NAME))
        await server.visit(client, TlsOptions(SERVER_NAME))
        client.forget()
        await server.leave(staying)
        assert not await server.visit(client, TlsOptions(SERVER_NAME))

    async def test_none_is_offered_under_other_terms(
        self, server: Server, client: TlsEngine
    ) -> None:
        await server.visit(client, TlsOptions(SERVER_NAME, verify=False))
        assert not await server.visit(client, TlsOptions(SERVER_NAME))

    @pytest.mark.parametrize("there", ["127.0.0.2", "127.0.0.1"])
    async def test_none_is_offered_at_another_address_or_port(
        self, certificate: Certificate, client: TlsEngine, there: str
    ) -> None:
        async with serving(certificate, lambda tcp: tcp) as server:
            await server.visit(client, TlsOptions(SERVER_NAME))
            server.listener.close()
            server.listener = socket.create_server((there, 0))
            assert not await server.visit(client, TlsOptions(SERVER_NAME))


class TestEnds:
    @pytest.mark.parametrize("kept", [None, -1], ids=["between records", "inside a record"])
    async def test_a_client_that_just_goes_is_an_end(
        self,
        certificate: Certificate,
        server: Server,
        over: Callable[[PeekStream], ByteStream],
        kept: int | None,
    ) -> None:
        """As for web servers: what a client says has a length of its own."""
        near, far = connected(small=RECEIVE_BUFFER, receive=RECEIVE_BUFFER)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificate.authority)
        peer = FarEnd(far, TlsCodec(context, SERVER_NAME))
        _, stream = await both(
            peer.shake_hands(), accept_tls(over(TcpStream(near)), server.context)
        )
        assert isinstance(stream, SecureStream)
        await peer.send(b"the last words")
        await peer.send_wire(peer.codec.seal(b"cut")[:kept])
        peer.cut()
        assert await read_all(stream) == b"the last words" + (b"" if kept else b"cut")
        stream.abort()
        peer.close()

    async def test_a_forged_record_is_a_protocol_error_once_all_before_it_was_read(
        self, server: Server, client: TlsEngine
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))
        wire = bytearray(pair.far.codec.seal(b"true") + pair.far.codec.seal(bytes(100)))
        wire[-1] ^= 1
        await pair.far.send_wire(bytes(wire))
        await asyncio.sleep(0.004)
        assert await read_exactly(pair.near, 4) == b"true"
        for _ in range(2):
            with pytest.raises(ProtocolError, match="TLS"):
                await read_all(pair.near)

    async def test_a_close_notify_waits_until_the_kernel_has_room(
        self, server: Server, client: TlsEngine
    ) -> None:
        pair, written = await choked(server, client)
        pair.near.write_eof()
        assert pair.near.unsent is not None
        _, received = await both(settle(pair.near), pair.far.receive_all())
        assert received == written
        assert server.codec().ended

    @pytest.mark.parametrize("ends_before", [False, True])
    async def test_closing_waits_as_well(
        self, server: Server, client: TlsEngine, *, ends_before: bool
    ) -> None:
        pair, written = await choked(server, client)
        if ends_before:
            pair.near.write_eof()
        _, received = await both(pair.near.aclose(), pair.far.receive_all())
        assert received == written
        assert server.codec().ended

    @pytest.mark.virtual_time
    async def test_closing_does_not_wait_for_ever(self, server: Server, client: TlsEngine) -> None:
        pair, _ = await choked(server, client)
        async with asyncio.timeout(GIVE_UP_AFTER):
            await pair.near.aclose()

    async def test_a_close_notify_without_free_descriptors_leaks_none(
        self, server: Server, client: TlsEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = await server.connect(client, TlsOptions(SERVER_NAME))

        def fail() -> None:
            raise OSError(errno.EMFILE, "none left")

        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - only their number counts
        with monkeypatch.context() as patch:
            patch.setattr("socket.socketpair", fail)
            pair.near.write_eof()
        assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208 - as above


async def choked(server: Server, client: TlsEngine) -> tuple[Pair, bytes]:
    """A connection whose kernel takes nothing more, not even close_notify; and what it took."""
    near, far = socket.socketpair()  # tells exactly when it is full
    near.setblocking(False)
    descriptor = near.fileno()
    pair = await server.connect_over(near, far, client, TlsOptions(SERVER_NAME))
    written = 0
    while not is_full(descriptor):
        written += take(pair.near, bytes(400))
    assert pair.near.flush()
    return pair, bytes(written)


def is_full(descriptor: int) -> bool:
    """Whether the kernel takes nothing more for this socket."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        info = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))
    return bool(info[WMEM_ALLOC] >= info[SNDBUF])
