"""Connections that stay silent at a relay's port do not keep visitors out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.visitors import send_visitors, silent_connections
from tests.peers.process import accepts
from tests.peers.relay import make_relay, running_relay

IDLERS = 300  # more than the memory of a relay has room for: 225
MOST_FAILED = 0.02


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("crowd") / "relay"
    port = make_relay(directory)
    with running_relay(directory, port):
        assert accepts("127.0.0.1", port)
        yield port


@pytest.mark.prove
@pytest.mark.parametrize("each_second", [5, 20, 100])
@pytest.mark.parametrize(("networks", "again"), [(1, 0.5), (250, 5.0)], ids=["one", "many"])
async def test_visitors_far_away_get_the_page(
    port: int, each_second: float, networks: int, again: float
) -> None:
    async with silent_connections(port, IDLERS, networks, again):
        tally = await send_visitors(port, each_second, 6)
    print(f"{IDLERS} idle from {networks} networks, {each_second} visitors a second: {tally}")
    assert tally.failed < MOST_FAILED * tally.came
