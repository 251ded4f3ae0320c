"""Name servers of our own, and the path to one: it may lie, lose and be faster than the truth."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from circumvent.wire.dns_chunks import to_records

HOST = "127.0.0.1"
UDP_PAYLOAD = 1232

Records = Mapping[str, bytes]
Forge = Callable[[bytes], Iterable[bytes]]


def zone_records(zone: str, bundle: bytes) -> dict[str, bytes]:
    """Full names and texts."""
    return {f"{label}.{zone}": text for label, text in to_records(bundle)}


def answer(query: bytes, records: Records) -> bytes:
    """As a plain authoritative server."""
    question = dns.message.from_wire(query)
    response = dns.message.make_response(question)
    name = question.question[0].name
    text = records.get(name.to_text(omit_final_dot=True).lower())
    if text is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    else:
        strings = [text[at : at + 255].decode() for at in range(0, len(text), 255)]
        quoted = " ".join(f'"{string}"' for string in strings)
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", quoted))
    return response.to_wire()


def address_answer(query: bytes) -> bytes:
    """What some censors say to every question: the address of nobody."""
    question = dns.message.from_wire(query)
    response = dns.message.make_response(question)
    name = question.question[0].name
    response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "10.10.34.34"))
    return response.to_wire()


def truncated(query: bytes) -> bytes:
    """Says that the answer is too long for a datagram."""
    response = dns.message.make_response(dns.message.from_wire(query))
    response.flags |= dns.flags.TC
    return response.to_wire()


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers from ``records``; ``forge`` is what somebody on the path says before.

    With ``is_cut_off``, nothing but the forgeries arrives.
    """

    records: Records
    forge: Forge = field(default=lambda _: ())
    delay: float = 0.01  # of the real answer; those on the path are nearer
    is_cut_off: bool = False
    port: int = 0
    asked: list[str] = field(default_factory=list)
    _transport: asyncio.DatagramTransport | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._note(data)
        for forged in self.forge(data):
            self._transport.sendto(forged, addr)
        if not self.is_cut_off:
            loop = asyncio.get_running_loop()
            loop.call_later(self.delay, self._say, data, addr)

    def _say(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        said = answer(data, self.records)
        self._transport.sendto(said if len(said) <= UDP_PAYLOAD else truncated(data), addr)

    def _note(self, query: bytes) -> None:
        self.asked.append(dns.message.from_wire(query).question[0].name.to_text(True).lower())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                query = await reader.readexactly(length)
                self._note(query)
                said = answer(query, self.records)
                writer.write(len(said).to_bytes(2) + said)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(server: NameServer) -> AsyncIterator[str]:
    """Run it over UDP and TCP; gives ``127.0.0.1:PORT``."""
    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(server.serve, HOST, 0)
    server.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(lambda: server, (HOST, server.port))
    yield f"{HOST}:{server.port}"
    udp.close()
    tcp.close()


@dataclass
class OnPath(NameServer):
    """Stands in front of a real name server on HOST: passes questions on, after its own answers."""

    behind: int = 0

    def _say(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._pass_on(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, data: bytes, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((HOST, self.behind))
            await loop.sock_sendall(sock, data)
            said = await loop.sock_recv(sock, 4096)
        assert self._transport is not None
        self._transport.sendto(said, addr)
