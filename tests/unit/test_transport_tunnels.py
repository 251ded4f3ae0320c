"""What the tunnels of this package dial, send first and take off what comes back."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from circumvent.api import (
    Account,
    ByteStream,
    Datagrams,
    DestinationError,
    DialError,
    LayerStream,
    PeekStream,
    ProtocolError,
    Reason,
    Route,
    SecureStream,
    StreamResetError,
    TlsOptions,
    Transport,
    Tunnel,
)
from circumvent.memory import Memory
from circumvent.net.tcp import TcpStream
from circumvent.testing.far_end import connected
from circumvent.wire.address import Destination
from circumvent_plugins import direct, shadowsocks, trojan, vless
from circumvent_plugins.shadowsocks.ciphers import CIPHERS, master_key, subkey
from circumvent_plugins.vless.response import ResponseStream

KERNEL_BUFFER = 64 * 1024
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

TROJAN = trojan.Trojan()
VLESS = vless.Vless()
SHADOWSOCKS = shadowsocks.Shadowsocks()
DIRECT = direct.Direct()


class TestRequestHeaders:
    """Byte for byte what the protocols ask for."""

    def test_trojan(self) -> None:
        digest = hashlib.sha224(b"password").hexdigest().encode()
        header = trojan.request_header("password", Destination("example.com", 443))
        assert header == digest + b"\r\n\x01\x03\x0bexample.com\x01\xbb\r\n"
        six = trojan.request_header("password", Destination("::1", 80))
        assert six == digest + b"\r\n\x01\x04" + bytes(15) + b"\x01\x00\x50\r\n"

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
            ("example.com", b"\x02\x0bexample.com"),
            ("::1", b"\x03" + bytes(15) + b"\x01"),
        ],
    )
    def test_vless(self, host: str, address: bytes) -> None:
        header = vless.request_header(UUID, Destination(host, 443))
        user = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")
        assert header == b"\x00" + user + b"\x00\x01\x01\xbb" + address


class Chunks(LayerStream):
    """A stream that was sent ``chunks`` and then ended."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = list(chunks)

    def read_into(self, buffer: memoryview) -> int | None:
        if not self.chunks:
            return 0
        chunk = self.chunks.pop(0)
        buffer[: len(chunk)] = chunk
        return len(chunk) or None


def read_all(stream: ByteStream) -> bytes:
    block, received = memoryview(bytearray(1024)), b""
    while (count := stream.read_into(block)) != 0:
        received += bytes(block[: count or 0])
    return received


def respond(*chunks: bytes) -> bytes:
    base = Chunks(chunks)
    base.base = base
    return read_all(ResponseStream(base))


class TestVlessResponse:
    @given(st.binary(max_size=255), st.binary(max_size=40), st.lists(st.integers(0, 300)))
    def test_the_header_is_dropped_however_it_is_split(
        self, addons: bytes, payload: bytes, cuts: list[int]
    ) -> None:
        data = bytes((0, len(addons))) + addons + payload
        edges = [0, *sorted(cuts), len(data)]
        chunks = [data[low:high] for low, high in pairwise(edges)]
        assert respond(*chunks) == payload

    def test_later_bytes_pass_untouched(self) -> None:
        assert respond(b"\x00\x00abc", b"\x00\x02de") == b"abc\x00\x02de"

    def test_an_end_without_a_response_is_an_end(self) -> None:
        assert respond() == b""

    @pytest.mark.parametrize("cut", [b"\x00", b"\x00\x02a"])
    def test_an_end_inside_the_header_is_a_cut(self, cut: bytes) -> None:
        with pytest.raises(StreamResetError, match="cut"):
            respond(cut)

    def test_an_unknown_version_is_a_protocol_error(self) -> None:
        with pytest.raises(ProtocolError, match="unknown version"):
            respond(b"HTTP/1.1 400 Bad Request")


class NoTls(LayerStream, SecureStream):
    def channel_binding(self) -> bytes:
        return b"none"


class PairDialer:
    """A dialer whose server is the other end of a connection; keeps what it was asked for.

    It is its own TLS engine as well.
    """

    def __init__(self) -> None:
        self.failure: int | None = None
        self.dialled: list[tuple[str, int]] = []
        self.options: list[TlsOptions] = []
        near, self.server = connected(small=KERNEL_BUFFER, receive=KERNEL_BUFFER)
        self.stream = TcpStream(near)
        self.stream.route = Route(self)

    async def tcp(self, host: str, port: int) -> PeekStream:
        self.dialled.append((host, port))
        if self.failure is not None:
            raise DialError("refused for the test", errno=self.failure)
        return self.stream

    async def start(self, stream: ByteStream, options: TlsOptions) -> SecureStream:
        self.options.append(options)
        return NoTls(stream)

    def forget(self) -> None:
        raise NotImplementedError

    async def udp(self, host: str, port: int) -> Datagrams:
        raise NotImplementedError

    async def resolve(self, name: str) -> Sequence[str]:
        return (name,)

    def sent(self) -> bytes:
        return self.server.recv(4096)

    async def close(self) -> None:
        self.server.close()
        await self.stream.aclose()


@pytest.fixture
async def dialer() -> AsyncIterator[PairDialer]:
    dialer = PairDialer()
    yield dialer
    await dialer.close()


@pytest.fixture
def account() -> Account:
    return Memory(1 << 20).account("test")


async def connect(transport: Transport, link: str, dialer: PairDialer, account: Account) -> Tunnel:
    return await transport.connect(transport.parse(link), dialer, account)


def write_out(stream: ByteStream, data: bytes) -> int:
    start = stream.headroom
    block = memoryview(bytearray(start + 512))
    block[start : start + len(data)] = data
    return stream.write(block, start, start + len(data))


def open_first_record(sent: bytes, password: str) -> bytes:
    """SIP004: the salt, then the sealed length and the sealed payload."""
    cipher = CIPHERS["aes-128-gcm"]
    salt, length, payload = sent[:16], sent[16:34], sent[34:]
    aead = AESGCM(subkey(master_key(password, cipher.key_size), salt))
    assert int.from_bytes(aead.decrypt(bytes(12), length, None)) == len(payload) - 16
    return aead.decrypt(b"\x01" + bytes(11), payload, None)


class TestTunnels:
    destination = Destination("example.org", 443)

    async def test_trojan_sends_its_header_inside_tls(
        self, dialer: PairDialer, account: Account
    ) -> None:
        tunnel = await connect(TROJAN, "trojan://pw@h.example:8443?alpn=h2", dialer, account)
        assert not dialer.dialled
        stream = await tunnel.open(self.destination)
        assert dialer.dialled == [("h.example", 8443)]
        assert dialer.options == [TlsOptions("h.example", ("h2",))]
        assert write_out(stream, b"data") == 4
        assert dialer.sent() == trojan.request_header("pw", self.destination) + b"data"

    @pytest.mark.parametrize(("security", "handshakes"), [("none", 0), ("tls", 1)])
    async def test_vless_goes_plain_or_inside_tls(
        self, security: str, handshakes: int, dialer: PairDialer, account: Account
    ) -> None:
        link = f"vless://{UUID}@h.example:80?security={security}"
        stream = await (await connect(VLESS, link, dialer, account)).open(self.destination)
        assert len(dialer.options) == handshakes
        assert write_out(stream, b"data") == 4
        assert dialer.sent() == vless.request_header(UUID, self.destination) + b"data"

    async def test_shadowsocks_seals_the_address_first(
        self, dialer: PairDialer, account: Account
    ) -> None:
        link = "ss://aes-128-gcm:pw@h.example:8388"
        stream = await (await connect(SHADOWSOCKS, link, dialer, account)).open(self.destination)
        assert dialer.dialled == [("h.example", 8388)]
        assert not dialer.options
        assert write_out(stream, b"data") == 4
        assert open_first_record(dialer.sent(), "pw") == self.destination.encode() + b"data"

    @pytest.mark.parametrize(
        ("transport", "link"),
        [
            (TROJAN, "trojan://pw@h:1"),
            (VLESS, f"vless://{UUID}@h:1"),
            (SHADOWSOCKS, "ss://aes-128-gcm:pw@h:1"),
        ],
    )
    async def test_a_name_that_fits_no_wire_is_refused_before_any_dial(
        self, transport: Transport, link: str, dialer: PairDialer, account: Account
    ) -> None:
        tunnel = await connect(transport, link, dialer, account)
        with pytest.raises(DestinationError) as caught:
            await tunnel.open(Destination("visited" * 40, 443))
        assert "visited" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert not dialer.dialled
        assert not tunnel.replies


class TestDirect:
    async def test_it_dials_the_destination_itself(
        self, dialer: PairDialer, account: Account
    ) -> None:
        tunnel = await connect(DIRECT, "direct://", dialer, account)
        assert tunnel.replies
        assert await tunnel.open(Destination("::1", 80)) is dialer.stream
        assert dialer.dialled == [("::1", 80)]

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (errno.ECONNREFUSED, Reason.REFUSED),
            (errno.ENETUNREACH, Reason.NETWORK_UNREACHABLE),
            (errno.EHOSTUNREACH, Reason.HOST_UNREACHABLE),
            (errno.ETIMEDOUT, Reason.TIMED_OUT),
        ],
    )
    async def test_it_says_why_a_destination_fails(
        self, code: int, reason: Reason, dialer: PairDialer, account: Account
    ) -> None:
        dialer.failure = code
        tunnel = await connect(DIRECT, "direct://", dialer, account)
        with pytest.raises(DestinationError) as caught:
            await tunnel.open(Destination("192.0.2.1", 80))
        assert (caught.value.reason, caught.value.errno) == (reason, code)

    async def test_other_failures_are_its_own(self, dialer: PairDialer, account: Account) -> None:
        dialer.failure = errno.EMFILE
        tunnel = await connect(DIRECT, "direct://", dialer, account)
        with pytest.raises(DialError):
            await tunnel.open(Destination("192.0.2.1", 80))


@pytest.mark.parametrize("module", [trojan, vless, shadowsocks, direct])
def test_every_module_offers_its_transport(module: object) -> None:
    (transport,) = module.circumvent_transports()  # type: ignore[attr-defined]
    assert isinstance(transport, Transport)
