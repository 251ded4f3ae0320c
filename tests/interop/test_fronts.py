"""The fronted carrier's stream through web servers that others wrote."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from circumvent.api import ByteStream
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.testing.steps import read_exactly, write_all
from circumvent.wire.address import Destination
from circumvent_plugins.fronted_carrier import connect_front
from circumvent_plugins.fronted_carrier.stream import FrontedStream, FrontTimings
from tests.peers.certificates import SERVER_NAME, Certificate
from tests.peers.haproxy import haproxy
from tests.peers.nginx import HOLDS_BACK, SITE, nginx
from tests.unit.http_relay import HOST, HttpRelay, http_relay, link_to

MIB = 1 << 20
HIDDEN = "hidden.far.test"

Front = Callable[[Path, Certificate, int], AbstractContextManager[int]]


@contextmanager
def behind_nginx(
    folder: Path, certificate: Certificate, server: int, more: str = ""
) -> Iterator[int]:
    """The front's own name leads nowhere; the hidden one to the relay."""
    servers = {SERVER_NAME: "return 404;", HIDDEN: SITE.format(path="/", port=server, more=more)}
    with nginx(folder, certificate, servers) as port:
        yield port


FRONTS: dict[str, tuple[Front, bool]] = {
    "nginx": (behind_nginx, False),
    "haproxy": (haproxy, False),
    "nginx that holds back": (partial(behind_nginx, more=HOLDS_BACK), True),
}


@dataclass(frozen=True, slots=True)
class Fronted:
    near: FrontedStream
    far: ByteStream
    relay: HttpRelay
    holds_back: bool


@pytest.fixture(params=FRONTS.values(), ids=list(FRONTS))
async def fronted(
    request: pytest.FixtureRequest,
    folder: Path,
    certificate: Certificate,
) -> AsyncIterator[Fronted]:
    front, holds_back = request.param
    account = Memory(1 << 20).account("client")
    dialer = NetDialer(TlsClient(str(certificate.authority)))
    async with http_relay(certificate, tls=False) as (relay, server):
        with front(folder, certificate, server) as port:
            link = replace(link_to(port, certificate), web=Destination(HOST, port), web_host=HIDDEN)
            near = FrontedStream(
                partial(connect_front, link, dialer, account),
                is_short=False,
                timings=FrontTimings(answer=1.0),
            )
            await near.opened()
            far = await relay.streams.get()
            if near.is_short:  # the first one is given up
                far = await relay.streams.get()
            yield Fronted(near, far, relay, holds_back)
            near.abort()
            await near.closed()


async def test_bytes_arrive_both_ways(fronted: Fronted) -> None:
    assert fronted.near.is_short is fronted.holds_back
    up, down = os.urandom(2 * MIB), os.urandom(8 * MIB)
    async with asyncio.TaskGroup() as group:
        group.create_task(write_all(fronted.near, up))
        group.create_task(write_all(fronted.far, down))
        received = group.create_task(read_exactly(fronted.far, len(up)))
        read = group.create_task(read_exactly(fronted.near, len(down)))
    assert received.result() == up
    assert read.result() == down


async def test_questions_are_answered_at_once(fronted: Fronted) -> None:
    started = asyncio.get_running_loop().time()
    for number in range(20):
        word = bytes((number,)) * 100
        await write_all(fronted.near, word)
        assert await read_exactly(fronted.far, 100) == word
        await write_all(fronted.far, word)
        assert await read_exactly(fronted.near, 100) == word
    taken = asyncio.get_running_loop().time() - started
    print(f"{taken / 20 * 1000:.1f} ms each")
    assert taken < 4
