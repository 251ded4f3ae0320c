"""Every transport against every real server that speaks it."""

import pytest

from tests.interop.matrix import BULK, DESTINATIONS, HALF_CLOSE, PEER_CUTS, Matrix, Route
from tests.peers import socks
from tests.peers.destinations import pattern_digest
from tests.peers.servers import KEEP_HALF_CLOSE

SIZES = (0, 1, 16_383, 16_384, 1 << 20)  # around the largest Shadowsocks and TLS records
BULK_SIZE = 100_000_000


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_bodies_of_every_size_arrive_whole_both_ways(
    route: Route, destination: str, matrix: Matrix
) -> None:
    for size in SIZES:
        assert_arrives_whole(route, DESTINATIONS[destination], size)
    matrix.saw(route, destination)


def test_a_hundred_megabytes_arrive_whole_both_ways(route: Route, matrix: Matrix) -> None:
    assert_arrives_whole(route, DESTINATIONS["name"], BULK_SIZE)
    matrix.saw(route, BULK)


def test_the_end_of_one_direction_leaves_the_other_open(route: Route, matrix: Matrix) -> None:
    if route.peer not in KEEP_HALF_CLOSE:
        with pytest.raises(ConnectionError):  # the server's doing; what counts: nothing hangs
            echo(route, 1)
        matrix.saw(route, HALF_CLOSE, PEER_CUTS)
        return
    for size in (1, 1 << 20):
        assert echo(route, size) == (pattern_digest(size), pattern_digest(size))
    matrix.saw(route, HALF_CLOSE)


def assert_arrives_whole(route: Route, host: str, size: int) -> None:
    expected = pattern_digest(size)
    for move in (socks.download, socks.upload):
        with socks.connect(route.port, host, route.destinations.http_port) as connection:
            assert move(connection, size) == expected, f"{move.__name__} of {size} bytes"


def echo(route: Route, size: int) -> tuple[str, str]:
    host = DESTINATIONS["IPv4"]
    with socks.connect(route.port, host, route.destinations.echo_port) as connection:
        return socks.echo(connection, size)
