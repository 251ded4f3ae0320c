"""A plain SOCKS5 client (RFC 1928), and the conversations that tests have through it."""

import hashlib
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from threading import Thread

from tests.peers.destinations import DIGEST_SIZE, pattern

TIMEOUT = 20.0  # seconds without progress
CHUNK = 1 << 18
VERSION, NO_PASSWORD, CONNECT = 5, 0, 1
IPV4, NAME, IPV6 = 1, 3, 4


class SocksError(Exception):
    """The proxy refused; ``code`` is the reply (RFC 1928 section 6)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"SOCKS5 reply {code}")
        self.code = code


def connect(proxy_port: int, host: str, port: int, timeout: float = TIMEOUT) -> socket.socket:
    """A socket to ``host`` through the proxy on 127.0.0.1; raises SocksError or OSError."""
    connection = socket.create_connection(("127.0.0.1", proxy_port), timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _shake_hands(connection, host, port)
    except BaseException:
        connection.close()
        raise
    return connection


def _shake_hands(connection: socket.socket, host: str, port: int) -> None:
    connection.sendall(bytes((VERSION, 1, NO_PASSWORD)))
    if read_exactly(connection, 2) != bytes((VERSION, NO_PASSWORD)):
        raise ConnectionError("the proxy wants a password")
    connection.sendall(bytes((VERSION, CONNECT, 0)) + encode(host) + port.to_bytes(2))
    _, code, _, kind = read_exactly(connection, 4)
    size = {IPV4: 4, IPV6: 16}.get(kind) or read_exactly(connection, 1)[0]
    read_exactly(connection, size + 2)
    if code:
        raise SocksError(code)


def encode(host: str) -> bytes:
    """A host as SOCKS5 sends it: names stay names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes((NAME, len(host))) + host.encode()
    return bytes((IPV4 if address.version == 4 else IPV6,)) + address.packed


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes; raises ConnectionError when the end comes first."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def get(connection: socket.socket, path: str) -> HTTPResponse:
    """Ask for ``path``; the response's body is not read yet."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: site\r\n\r\n".encode())
    response = HTTPResponse(connection, method="GET")
    response.begin()
    return response


def download(connection: socket.socket, size: int) -> str:
    """The SHA-256 of what ``/bytes/size`` sends."""
    digest = hashlib.sha256()
    with get(connection, f"/bytes/{size}") as response:
        while piece := response.read1(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def upload(connection: socket.socket, size: int) -> str:
    """The SHA-256 that the far side saw of ``pattern(size)``."""
    head = f"POST /sum HTTP/1.1\r\nHost: site\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode())
    for piece in pattern(size):
        connection.sendall(piece)
    with HTTPResponse(connection, method="POST") as response:
        response.begin()
        return response.read().decode()


@contextmanager
def sending(connection: socket.socket, size: int) -> Iterator[None]:
    """Send ``pattern(size)`` and the end of the input, while the caller reads."""

    def send() -> None:
        for piece in pattern(size):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)

    thread = Thread(target=send, daemon=True)
    thread.start()
    yield
    thread.join(TIMEOUT)


def echo(connection: socket.socket, size: int) -> tuple[str, str]:
    """Send, half-close, read on: SHA-256 of what came back, and what the far side says it got."""
    digest = hashlib.sha256()
    with sending(connection, size):
        left = size
        while left:
            piece = connection.recv(min(left, CHUNK))
            if not piece:
                raise ConnectionError(f"the echo ended {left} bytes early")
            digest.update(piece)
            left -= len(piece)
        trailer = read_exactly(connection, DIGEST_SIZE)
    return digest.hexdigest(), trailer.hex()
