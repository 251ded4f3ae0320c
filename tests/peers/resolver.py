"""A name server that knows nothing and remembers who was asked for."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tests.peers.process import PeerError

ADDRESS = "127.0.0.53"
PORT = 53  # resolv.conf has no place for another
MAX_MESSAGE = 4096
HEADER_SIZE = 12
NO_SUCH_NAME = 0x8183  # a response, recursion available, NXDOMAIN (RFC 1035 section 4.1.1)


@dataclass(frozen=True, slots=True)
class Resolver:
    """``asked`` grows with every query; ``resolv_conf`` leads to it."""

    resolv_conf: Path
    asked: list[str] = field(default_factory=list)


@contextmanager
def recording_resolver(folder: Path) -> Iterator[Resolver]:
    """Run it in a thread; raises PeerError when its address cannot be had."""
    resolv_conf = folder / "resolv.conf"
    resolv_conf.write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")
    resolver = Resolver(resolv_conf)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((ADDRESS, PORT))
        except OSError as error:
            raise PeerError(f"no name server on {ADDRESS}:{PORT}: {error}; be root") from error
        thread = Thread(target=_serve, args=(server, resolver.asked), daemon=True)
        thread.start()
        yield resolver
        server.sendto(b"", server.getsockname())  # ends the thread
        thread.join()


def _serve(server: socket.socket, asked: list[str]) -> None:
    while True:
        query, client = server.recvfrom(MAX_MESSAGE)
        if not query:
            return
        asked.append(_name(query))
        answer = query[:2] + NO_SUCH_NAME.to_bytes(2) + query[4:6] + bytes(6) + query[HEADER_SIZE:]
        server.sendto(answer, client)


def _name(query: bytes) -> str:
    """The name in the question (RFC 1035 section 4.1.2); queries do not compress it."""
    labels: list[str] = []
    at = HEADER_SIZE
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels)
