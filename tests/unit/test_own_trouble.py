"""What is trouble of this machine, or of its network, condemns no tunnel."""

import asyncio
import errno
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream, Vitals
from circumvent.memory import Account
from circumvent.net.patience import note_answered
from circumvent.tunnels.live import TunnelState
from circumvent.tunnels.vitals import is_frozen
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    GOOD_ANSWER,
    FarStream,
    FarTransport,
    all_of,
    answer,
    candidate,
    echo,
    never_answer,
    nodes,
)
from tests.unit.running_client import running_client
from tests.unit.test_failover import POST, SITE
from tests.virtual.loop import LOOK_EVERY, running_loop, until

pytestmark = pytest.mark.virtual_time


class Secured(FarTransport):
    """Opening a stream shows that the server itself lives, as a TLS handshake does."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)
        right = tunnel.open

        async def open_and_note(destination: Destination) -> ByteStream:
            stream = await right(destination)
            note_answered()
            return stream

        tunnel.open = open_and_note  # type: ignore[method-assign]
        return tunnel


async def test_a_steady_upload_is_life(tmp_path: Path) -> None:
    async def greet_and_take(stream: FarStream) -> None:
        await stream.send(b"x")
        await never_answer(stream)

    handlers = {SITE: greet_and_take}
    async with nodes(1, handlers) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        uploads = [await client.browse(SITE, 25) for _ in range(4)]  # where servers speak first
        for upload in uploads:
            await upload.receive_exactly(1)
        for _ in range(12):
            for upload in uploads:
                await upload.send(b"u" * 2000)
            await asyncio.sleep(0.5)
        assert client.manager.tunnels == [tunnel]
        assert len(tunnel.streams) == len(uploads)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOBUFS, errno.ENETUNREACH])
async def test_what_this_machine_lacks_is_no_evidence(tmp_path: Path, code: int) -> None:
    async with nodes(1, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(POST)
        await browser.receive_exactly(len(POST))

        client.dialer.lacks = code
        refused = await client.browse(SITE)
        with pytest.raises(ConnectionResetError):
            await refused.receive_all()
        client.health.suspect(tunnel)
        probes = 3
        await until(lambda: len(client.failures()) >= probes)
        client.dialer.lacks = None
        await until(lambda: tunnel.state is TunnelState.UP)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST


async def test_a_machine_that_stood_still_condemns_nobody(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        tunnels = await client.up(2)
        browser = await client.browse(SITE)
        await browser.send(POST)
        await browser.receive_exactly(len(POST))
        client.health.revalidate()
        await asyncio.sleep(0.01)
        running_loop().stand_still(60.0)  # all deadlines pass
        await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))
        assert client.manager.tunnels == tunnels
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST


async def test_nor_does_it_acquit_anybody(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        (tunnel,) = await client.up(1)
        node.freeze()
        client.health.suspect(tunnel)
        await asyncio.sleep(0.01)
        running_loop().stand_still(60.0)
        states = set()
        while tunnel.state is not TunnelState.DEAD:
            states.add(tunnel.state)
            await asyncio.sleep(LOOK_EVERY)
        assert states == {TunnelState.SUSPECTED}


async def test_if_all_are_silent_at_once_it_is_the_network_and_streams_are_kept(
    tmp_path: Path,
) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        tunnels = await client.up(2)
        browser = await client.browse(SITE)
        await browser.send(POST)
        await browser.receive_exactly(len(POST))
        for node in made:
            node.freeze()
        await browser.send(POST)
        await until(lambda: all(tunnel.silent_since for tunnel in tunnels))
        for node in made:
            node.thawed.set()
        assert await browser.receive_exactly(len(POST)) == POST
        await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))
        assert client.manager.tunnels == tunnels


def test_after_an_outage_a_path_has_as_long_again_to_give_a_sign() -> None:
    silent = Vitals(silence=12.0, unanswered=6, rtt=0.1, queueing=0.0)
    assert is_frozen(silent, asked_for=11.0, works_for=7.0, patience=10.0)
    assert not is_frozen(silent, asked_for=11.0, works_for=4.0, patience=10.0)
    assert not is_frozen(silent, asked_for=0.2, works_for=7.0, patience=10.0)
    assert not is_frozen(silent, asked_for=11.0, works_for=7.0, patience=22.0)


async def test_a_server_that_shakes_hands_lives_though_its_pages_do_not(tmp_path: Path) -> None:
    async with (
        nodes(1) as (node,),
        running_client([candidate(node, Secured())], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        node.answer_probes(never_answer)
        client.health.suspect(tunnel)
        await until(lambda: tunnel.misses == 1)
        assert tunnel.state is TunnelState.SUSPECTED
        node.answer_probes(answer(GOOD_ANSWER))
        await until(lambda: tunnel.state is TunnelState.UP)
        node.answer_probes(never_answer)
        client.health.suspect(tunnel)
        await until(lambda: tunnel.state is TunnelState.DEAD)
