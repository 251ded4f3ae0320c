"""Sends one request through the local SOCKS port (RFC 1928, RFC 1929), as a browser does."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from circumvent.errors import LocalError
from circumvent.inbound.options import Credentials
from circumvent.net.listener import parse_listen
from circumvent.wire import socks5
from circumvent.wire.address import IPV4, IPV6, Destination

CHECK_SECONDS = 10.0  # for each address
REPLY_TAIL = {IPV4: 4 + 2, IPV6: 16 + 2}  # bound address and port
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound


def check_port(listen: str, credentials: Credentials | None, urls: Iterable[str]) -> float:
    """Milliseconds until one of the addresses answered; raises LocalError when none did."""
    reasons = []
    for url in urls:
        start = time.monotonic()
        try:
            _fetch(listen, credentials, urlsplit(url))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(str(error) or type(error).__name__)
        else:
            return (time.monotonic() - start) * 1000
    raise LocalError(f"nothing came through {listen}: {'; '.join(reasons)}", stage="check")


def _fetch(listen: str, credentials: Credentials | None, url: SplitResult) -> None:
    host, port = url.hostname or "", url.port or http.client.HTTP_PORT
    local_host, local_port = parse_listen(listen.partition(",")[0])
    local = (ANYWHERE.get(local_host, local_host), local_port)
    with socket.create_connection(local, CHECK_SECONDS) as connection:
        _connect(connection, credentials, Destination(host, port))
        _request(connection, host, port, url)


def _request(connection: socket.socket, host: str, port: int, url: SplitResult) -> None:
    client = http.client.HTTPConnection(host, port, timeout=CHECK_SECONDS)
    client.sock = connection
    client.request("GET", url._replace(scheme="", netloc="", fragment="").geturl() or "/")
    status = client.getresponse().status
    if status != HTTPStatus.NO_CONTENT:
        raise ValueError(f"the probe was answered with HTTP status {status} instead of 204")


def _connect(
    connection: socket.socket, credentials: Credentials | None, destination: Destination
) -> None:
    method = socks5.USER_PASSWORD if credentials else socks5.NO_LOGIN
    connection.sendall(bytes((socks5.VERSION, 1, method)))
    if _receive(connection, 2) != bytes((socks5.VERSION, method)):
        raise ValueError("the local port wants another kind of log-in; see --user")
    if credentials:
        _log_in(connection, credentials)
    connection.sendall(bytes((socks5.VERSION, socks5.CONNECT, 0)) + destination.encode())
    _, reply, _, kind = _receive(connection, 4)
    if reply:
        raise ValueError(f"the local port replied with SOCKS code {reply}")
    tail = REPLY_TAIL.get(kind) or _receive(connection, 1)[0] + 2
    _receive(connection, tail)


def _log_in(connection: socket.socket, credentials: Credentials) -> None:
    parts = (credentials.username.encode(), credentials.password.encode())
    connection.sendall(
        bytes((socks5.LOGIN_VERSION,)) + b"".join(bytes((len(part),)) + part for part in parts)
    )
    if _receive(connection, 2)[1]:
        raise ValueError("the local port refused user or password")


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ValueError("the local port closed the connection")
        data += more
    return data
