"""The key for an encrypted greeting, looked up at a name server over HTTPS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from dns.message import from_wire, make_response
from dns.rrset import from_text

from circumvent.api import ByteStream, HandshakeError, LinkError, TlsOptions
from circumvent.api.dialer import DialerWrapper
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.ech_lookup import EchLookupLayer, EchSource, look_up
from circumvent.net.dialer import NetDialer
from tests.peers.certificates import Certificate, make_certificate

HOST, NAME = "127.0.0.1", "key.test."
KEY = b"\0\4\xfe\x0a\0\0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


class NameServer:
    """Answers with these records; ``head`` may be that of something else."""

    def __init__(self, *records: str, head: str = "HTTP/1.1 200 OK") -> None:
        self.records, self.head = records, head
        self.asked: list[bytes] = []
        self.answer = self.make

    def make(self, question: bytes) -> bytes:
        response = make_response(from_wire(question))
        response.answer = [from_text(NAME, 60, "IN", *each.split(" ", 1)) for each in self.records]
        body = response.to_wire()
        return f"{self.head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        self.asked.append(head)
        writer.write(self.answer(await reader.readexactly(size)))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def served(server: NameServer, certificate: Certificate) -> AsyncIterator[EchSource]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    listening = await asyncio.start_server(server.serve, HOST, 0, ssl=context)
    async with listening:
        yield EchSource(NAME, HOST, listening.sockets[0].getsockname()[1], "/dns-query")


class Silent(DialerWrapper):
    """Nobody is there."""

    async def tcp(self, host: str, port: int) -> ByteStream:  # noqa: ARG002 - all are alike
        await asyncio.Event().wait()
        raise AssertionError


def dialer(certificate: Certificate | None) -> NetDialer:
    return NetDialer(TlsClient(str(certificate.authority) if certificate else None))


async def test_the_key_of_the_record_is_found(certificate: Certificate) -> None:
    server = NameServer("A 192.0.2.1", "HTTPS 1 . alpn=h2 ech=AAT+CgAA")
    async with served(server, certificate) as source:
        assert await look_up(source, dialer(certificate)) == KEY
    assert server.asked[0].startswith(b"POST /dns-query HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (NameServer("HTTPS 1 . alpn=h2"), "knows no key"),
        (NameServer(), "knows no key"),
        (NameServer(head="HTTP/1.1 404 Not Found"), "does not answer questions"),
    ],
)
async def test_what_brings_no_key(server: NameServer, words: str, certificate: Certificate) -> None:
    async with served(server, certificate) as source:
        with pytest.raises(HandshakeError, match=f"ech: the key could not be .*{words}"):
            await look_up(source, dialer(certificate))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabcde", "cut"),
        (b"HTTP/1.1 200 OK\r\n\r\nabcde", "does not answer questions"),
        (b"x" * 40_000, "too long"),
        (b"", "cut"),
    ],
)
async def test_what_is_no_answer(answer: bytes, words: str, certificate: Certificate) -> None:
    server = NameServer()
    server.answer = lambda question: answer  # noqa: ARG005 - the same for all
    async with served(server, certificate) as source:
        with pytest.raises(HandshakeError, match=words):
            await look_up(source, dialer(certificate))


async def test_a_name_server_that_nobody_vouches_for_is_not_asked(
    certificate: Certificate,
) -> None:
    server = NameServer("HTTPS 1 . ech=AAT+CgAA")
    async with served(server, certificate) as source:
        with pytest.raises(HandshakeError, match="certificate is not valid"):
            await look_up(source, dialer(None))
    assert server.asked == []


async def test_one_that_is_silent_is_given_up(certificate: Certificate) -> None:
    source = EchSource(NAME, "192.0.2.1", 443, "/")
    with pytest.raises(HandshakeError, match="does not answer"):
        await look_up(source, Silent(dialer(certificate)), patience=0.01)


def test_without_a_way_to_ask_nothing_is_dialled() -> None:
    async def dial() -> ByteStream:
        raise AssertionError

    layer = EchLookupLayer(TlsOptions("a.test"), EchSource(NAME, "dns.test", 443, "/"))
    with pytest.raises(LinkError, match="ech: "):
        layer.over(dial)
