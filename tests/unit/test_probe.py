"""Probes as a watcher on the path sees them: no two alike, and closed in order."""

from pathlib import Path

import h11
import pytest

from circumvent.tunnels.probe import REQUEST_SIZES, ProbeTarget
from tests.unit.far_side import (
    GOOD_ANSWER,
    OTHER_PROBE,
    PROBE,
    FarStream,
    all_of,
    nodes,
)
from tests.unit.running_client import running_client
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time
TARGET = ProbeTarget.parse("http://pages.test:8080/204")


def test_each_request_has_a_length_of_its_own() -> None:
    lengths = [len(TARGET.request()) for _ in range(50)]
    assert len(set(lengths)) > 30
    assert REQUEST_SIZES[0] <= min(lengths) < max(lengths) <= REQUEST_SIZES[1]


def test_a_request_is_http_for_its_page() -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(TARGET.request())
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.target == b"/204"
    assert dict(request.headers)[b"host"] == b"pages.test:8080"
    assert isinstance(server.next_event(), h11.EndOfMessage)


class Ends:
    """What followed a probe's request: nothing, which is an end in order, or a reset."""

    def __init__(self) -> None:
        self.seen: list[bytes | type[Exception]] = []
        self.is_answered = True

    async def handle(self, stream: FarStream) -> None:
        await stream.receive()
        if self.is_answered:
            await stream.send(GOOD_ANSWER)
        try:
            self.seen.append(await stream.receive())
        except ConnectionResetError as error:
            self.seen.append(type(error))


async def test_header_and_request_come_in_one_packet(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client(all_of([node]), tmp_path) as client:
        await client.up(1)
        first = node.streams[0].first
        assert first.endswith(b"\r\n\r\n")
        assert PROBE.encode() in first[:16]


async def test_it_ends_in_order(tmp_path: Path) -> None:
    ends = Ends()
    async with (
        nodes(1, {PROBE: ends.handle}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(1)
        await until(lambda: bool(ends.seen))
    assert ends.seen == [b""]


async def test_so_does_the_one_that_another_target_outran(tmp_path: Path) -> None:
    ends = Ends()
    ends.is_answered = False
    async with (
        nodes(1, {PROBE: ends.handle}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(1)
        await until(lambda: bool(ends.seen))
        assert len(made[0].streams_to(OTHER_PROBE)) == 1
    assert ends.seen == [b""]
