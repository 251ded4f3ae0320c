"""Probes as somebody on the path sees them: no two alike, and an end in order."""

from pathlib import Path

import h11
import pytest

from circumvent.tunnels.probe import REQUEST_SIZES, ProbeTarget
from tests.unit.far_side import (
    GOOD_ANSWER,
    OTHER_PROBE,
    PROBE,
    Visit,
    all_of,
    house,
    hurry,
    nodes,
    until,
)

TARGET = ProbeTarget.parse("http://pages.test:8080/204")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


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

    async def talk(self, visit: Visit) -> None:
        await visit.hear()
        if self.is_answered:
            await visit.say(GOOD_ANSWER)
        try:
            self.seen.append(await visit.hear())
        except ConnectionResetError as error:
            self.seen.append(type(error))


async def test_header_and_request_come_in_one_packet(tmp_path: Path) -> None:
    async with nodes(1) as (node,), house(all_of([node]), tmp_path) as home:
        await home.up(1)
        first = node.visits[0].first
        assert first.endswith(b"\r\n\r\n")
        assert PROBE.encode() in first[:16]


async def test_it_ends_in_order(tmp_path: Path) -> None:
    ends = Ends()
    async with nodes(1, {PROBE: ends.talk}) as made, house(all_of(made), tmp_path) as home:
        await home.up(1)
        await until(lambda: bool(ends.seen))
    assert ends.seen == [b""]


async def test_so_does_the_one_that_another_target_outran(tmp_path: Path) -> None:
    ends = Ends()
    ends.is_answered = False
    async with nodes(1, {PROBE: ends.talk}) as made, house(all_of(made), tmp_path) as home:
        await home.up(1)
        await until(lambda: bool(ends.seen))
        assert len(made[0].visits_to(OTHER_PROBE)) == 1
    assert ends.seen == [b""]
