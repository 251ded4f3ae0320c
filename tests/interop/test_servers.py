"""Every transport against every real server that speaks it."""

import contextlib
import socket
import uuid

import pytest

from tests.interop.matrix import (
    BULK,
    DESTINATIONS,
    FAR_END,
    FIRST,
    KEPT_BACK,
    LEFT_OUT,
    OUR_END,
    PEER_CUTS,
    REFUSED,
    Matrix,
    Route,
)
from tests.peers import socks
from tests.peers.destinations import pattern, pattern_digest
from tests.peers.process import free_port

SIZES = (0, 1, 16_383, 16_384, 1 << 20)  # around the largest Shadowsocks and TLS records
BULK_SIZE = 100_000_000
BANNER = b"220 a server that speaks first\r\n"


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_bodies_of_every_size_arrive_whole_both_ways(
    route: Route, destination: str, matrix: Matrix
) -> None:
    for size in SIZES:
        assert_arrives_whole(route, DESTINATIONS[destination], size)
    matrix.saw(route, destination)


def test_a_hundred_megabytes_arrive_whole_both_ways(route: Route, matrix: Matrix) -> None:
    if route.is_like_another:
        matrix.saw(route, BULK, LEFT_OUT)
        return
    assert_arrives_whole(route, DESTINATIONS["name"], BULK_SIZE)
    matrix.saw(route, BULK)


def test_a_server_that_speaks_first_is_heard(route: Route, matrix: Matrix) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socks.connect(route.port, DESTINATIONS["IPv4"], port) as client:
            listener.settimeout(socks.TIMEOUT)
            server, _ = listener.accept()
            with server:
                server.sendall(BANNER)
                assert socks.read_exactly(client, len(BANNER)) == BANNER
    matrix.saw(route, FIRST)


def test_a_destination_that_refuses_ends_its_stream_and_no_other(
    route: Route, matrix: Matrix
) -> None:
    if route.is_like_another:
        matrix.saw(route, REFUSED, LEFT_OUT)
        return
    with (
        contextlib.suppress(ConnectionError),
        socks.connect(route.port, DESTINATIONS["IPv4"], free_port()) as refused,
    ):
        refused.sendall(BANNER)
        assert refused.recv(1) == b""
    assert_arrives_whole(route, DESTINATIONS["IPv4"], 1)
    matrix.saw(route, REFUSED)


def test_the_end_of_what_we_send_leaves_the_answer_open(route: Route, matrix: Matrix) -> None:
    if route.keeps_end_back:
        with socks.connect(
            route.port, DESTINATIONS["IPv4"], route.destinations.echo_port
        ) as connection:
            connection.sendall(BANNER)
            connection.shutdown(socket.SHUT_WR)
            assert socks.read_exactly(connection, len(BANNER)) == BANNER
        matrix.saw(route, OUR_END, KEPT_BACK)
        return
    if not route.keeps_our_end:
        with pytest.raises(ConnectionError):  # the server's doing; what counts: nothing hangs
            echo(route, 1)
        matrix.saw(route, OUR_END, PEER_CUTS)
        return
    for size in (1, 1 << 20):
        assert echo(route, size) == (pattern_digest(size), pattern_digest(size))
    matrix.saw(route, OUR_END)


def test_the_end_of_the_answer_leaves_what_we_send_open(route: Route, matrix: Matrix) -> None:
    conversation = str(uuid.uuid4())
    with connect(route) as connection:
        socks.get(connection, f"/last-word/{conversation}").close()
        assert connection.recv(1) == b"", "the end of the answer did not arrive"
        if not route.keeps_far_end:
            matrix.saw(route, FAR_END, PEER_CUTS)
            return
        for piece in pattern(1 << 20):
            connection.sendall(piece)
    with connect(route) as connection, socks.get(connection, f"/heard/{conversation}") as heard:
        assert heard.read().decode() == pattern_digest(1 << 20)
    matrix.saw(route, FAR_END)


def assert_arrives_whole(route: Route, host: str, size: int) -> None:
    expected = pattern_digest(size)
    for move in (socks.download, socks.upload):
        with connect(route, host) as connection:
            assert move(connection, size) == expected, f"{move.__name__} of {size} bytes"


def connect(route: Route, host: str = DESTINATIONS["IPv4"]) -> socket.socket:
    return socks.connect(route.port, host, route.destinations.http_port)


def echo(route: Route, size: int) -> tuple[str, str]:
    host = DESTINATIONS["IPv4"]
    with socks.connect(route.port, host, route.destinations.echo_port) as connection:
        return socks.echo(connection, size)
