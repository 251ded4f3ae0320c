"""Everything that goes over a host's loopback, as a sniffer sees it; needs root.

Of TCP the first bytes of each direction are kept, of UDP who got something.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

FIRST = 1 << 14  # bytes that are kept of each direction
_IP = 0x0800
_ANY = 0x0003  # ETH_P_ALL
_ETHERNET = 14
_TCP, _UDP = 6, 17
_SYN = 0x02
_BUFFER = 64 << 20
_SO_RCVBUFFORCE = 33  # <asm/socket.h>; as SO_RCVBUF, without the system's limit
_TICK = 0.1  # seconds

Key = tuple[bytes, int, bytes, int]


@dataclass(slots=True)
class Way:
    """One direction of a connection, from its first packet on."""

    start: int  # the sequence number of the first byte
    pieces: dict[int, bytes] = field(default_factory=dict)

    @property
    def first(self) -> bytes:
        """The bytes from the beginning on, up to the first that was not seen."""
        data = b""
        for at in sorted(self.pieces):
            if at > len(data):
                break
            data = data[:at] + self.pieces[at]
        return data


class Sniffer:
    """``tcp`` has the directions, in order, with the port that each leads to; ``udp`` ports."""

    def __init__(self) -> None:
        self.tcp: list[tuple[int, Way]] = []
        self.udp: set[int] = set()
        self._open: dict[Key, Way] = {}

    def take(self, packet: bytes) -> None:
        """An IPv4 packet."""
        head = (packet[0] & 0x0F) * 4
        body = packet[head : int.from_bytes(packet[2:4]) or None]
        source, target = int.from_bytes(body[:2]), int.from_bytes(body[2:4])
        if packet[9] == _UDP:
            self.udp.add(target)
        elif packet[9] == _TCP:
            key = (packet[12:16], source, packet[16:20], target)
            self._take_tcp(key, body)

    def _take_tcp(self, key: Key, body: bytes) -> None:
        number = int.from_bytes(body[4:8])
        if body[13] & _SYN:
            way = self._open[key] = Way(number + 1)
            self.tcp.append((key[3], way))
            return
        way_or_none = self._open.get(key)
        data = body[(body[12] >> 4) * 4 :]
        if way_or_none is None or not data:
            return
        at = (number - way_or_none.start) % (1 << 32)
        if at < FIRST:
            way_or_none.pieces.setdefault(at, data[: FIRST - at])


@contextmanager
def sniffing() -> Iterator[Sniffer]:
    """Sniff the loopback of this process's network."""
    sniffer, done = Sniffer(), Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ANY)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        raw.bind(("lo", _ANY))
        raw.settimeout(_TICK)

        def run() -> None:
            while True:
                try:
                    frame, (_, kind, way, *_) = raw.recvfrom(1 << 17)
                except TimeoutError:
                    if done.is_set():
                        return
                    continue
                # On loopback each packet comes twice: as it leaves, and as it arrives.
                if kind == _IP and way == socket.PACKET_OUTGOING:
                    sniffer.take(frame[_ETHERNET:])

        thread = Thread(target=run)
        thread.start()
        try:
            yield sniffer
        finally:
            done.set()
            thread.join()
