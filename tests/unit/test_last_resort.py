"""Where no probe page can be reached, a server that proved itself is used, if none is better."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from circumvent.api import Privacy
from circumvent.errors import NoTunnelError
from circumvent.status.events import LastResort, TunnelUp
from circumvent.tunnels.live import LAST_RESORT, TunnelState
from circumvent.tunnels.timings import PoolTimings
from tests.unit.far_side import (
    GOOD_ANSWER,
    FarTransport,
    Handler,
    Node,
    answer,
    candidate,
    echo,
    never_answer,
    nodes,
)
from tests.unit.running_client import RunningClient, running_client
from tests.unit.test_client_hello import HELLO
from tests.unit.test_failover import POST, REPLY, SITE, close, reset
from tests.unit.test_own_trouble import Secured
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


async def served(client: RunningClient, data: bytes = HELLO) -> bytes:
    """What a user gets."""
    browser = await client.browse(SITE)
    await browser.send(data)
    reply = await browser.receive_exactly(len(REPLY))
    browser.end()
    return reply


def hide_pages(made: Sequence[Node], handler: Handler = never_answer) -> None:
    for node in made:
        node.answer_probes(handler)


@pytest.mark.parametrize("page", [never_answer, close, reset])
async def test_the_only_server_is_used_and_the_reason_told(page: Handler, tmp_path: Path) -> None:
    async with nodes(1, {SITE: answer(REPLY)}) as made:
        hide_pages(made, page)
        server = candidate(made[0], Secured())
        async with running_client([server], tmp_path) as client:
            assert await served(client) == REPLY
            (event,) = [each for each in client.events if isinstance(each, LastResort)]
            assert (event.server, event.reason) == (server.id, LAST_RESORT)
            assert client.attempts(server.id)[-1].detail == LAST_RESORT
            assert not client.manager.is_up()
            await asyncio.sleep(120.0)
            assert await served(client) == REPLY


@pytest.mark.parametrize(
    ("transport", "page"),
    [
        (FarTransport(), close),
        (FarTransport(), never_answer),
        (FarTransport("plain", Privacy.PLAIN), answer(b"HTTP/1.1 302 Found\r\n\r\n")),
        (Secured("plain", Privacy.PLAIN), close),
        (Secured("unverified", Privacy.UNVERIFIED), close),
        (Secured(), answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    ],
)
async def test_a_server_that_proved_nothing_is_not(
    transport: FarTransport, page: Handler, tmp_path: Path
) -> None:
    async with nodes(1, {SITE: answer(REPLY)}) as made:
        hide_pages(made, page)
        servers = [candidate(made[0], transport)]
        async with running_client(servers, tmp_path, privacy=Privacy.PLAIN) as client:
            with pytest.raises(NoTunnelError):
                await client.manager.pick(set())


async def test_an_answer_that_could_be_decrypted_proves_a_server(tmp_path: Path) -> None:
    async with nodes(1, {SITE: answer(REPLY)}) as made:
        hide_pages(made, answer(b"HTTP/1.1 403 Forbidden\r\n\r\n"))
        async with running_client([candidate(made[0])], tmp_path) as client:
            assert await served(client) == REPLY


async def test_a_server_whose_key_is_remembered_proves_itself(tmp_path: Path) -> None:
    async with nodes(1, {SITE: answer(REPLY)}) as made:
        server = candidate(made[0], Secured("unverified", Privacy.UNVERIFIED))
        async with running_client([], tmp_path, privacy=Privacy.UNVERIFIED) as client:
            client.store.certificates.keep(server.id, b"key")
            hide_pages(made, close)
            client.manager.offer([server])
            assert await served(client) == REPLY


async def test_it_never_wins_over_one_whose_probe_passes(tmp_path: Path) -> None:
    async with nodes(2, {SITE: answer(REPLY)}) as (fake, good):
        fake.answer_probes(close)
        good.answer_probes(answer(GOOD_ANSWER, after=PoolTimings().last_resort_after - 1.0))
        servers = [candidate(fake, Secured()), candidate(good)]
        async with running_client(servers, tmp_path) as client:
            assert await served(client) == REPLY
            assert client.manager.tunnels == [client.through(good)]
            await asyncio.sleep(120.0)
            assert client.manager.tunnels == [client.through(good)]
        assert not fake.streams_to(SITE)


async def test_it_is_left_for_the_first_whose_probe_passes(tmp_path: Path) -> None:
    async with nodes(2, {SITE: answer(REPLY)}) as (resort, good):
        resort.answer_probes(close)
        await good.kill()
        servers = [candidate(resort, Secured()), candidate(good)]
        async with running_client(servers, tmp_path) as client:
            assert await served(client) == REPLY
            tries = len(client.attempts(servers[1].id))
            good.start()
            await until(client.manager.is_up)
            assert tries < len(client.attempts(servers[1].id)) < tries + 8
            assert (await client.manager.pick(set())).candidate is servers[1]
            await until(lambda: client.manager.tunnels == [client.through(good)])


async def test_a_probe_that_passes_later_makes_it_one_like_others(tmp_path: Path) -> None:
    async with nodes(1) as made:
        hide_pages(made)
        async with running_client([candidate(made[0], Secured())], tmp_path) as client:
            (tunnel,) = await client.up(1)
            hide_pages(made, answer(GOOD_ANSWER))
            await until(client.manager.is_up)
            assert client.manager.tunnels == [tunnel]
            assert isinstance(client.events[-1], TunnelUp)


async def test_one_whose_users_are_served_is_not_cut_when_its_page_goes(tmp_path: Path) -> None:
    async with (
        nodes(1, {SITE: echo}) as made,
        running_client([candidate(made[0], Secured())], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST
        hide_pages(made)
        client.health.suspect(tunnel)
        await until(lambda: tunnel.is_last_resort)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST


async def test_one_whose_users_get_nothing_any_more_is(tmp_path: Path) -> None:
    async with (
        nodes(1, {SITE: echo, "silent.test": never_answer}) as made,
        running_client([candidate(made[0], Secured())], tmp_path) as client,
    ):
        (tunnel,) = await client.up(1)
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST
        hide_pages(made)
        for _ in range(3):
            await (await client.browse("silent.test")).send(POST)
        await until(lambda: tunnel.state is TunnelState.DEAD)


@pytest.mark.parametrize("fails", [never_answer, close, reset])
async def test_one_that_brings_nothing_fails_over_and_is_given_up(
    fails: Handler, tmp_path: Path
) -> None:
    async with nodes(2, {SITE: answer(REPLY)}) as (fake, good):
        hide_pages((fake, good), close)
        fake.handlers[SITE] = fails
        servers = [candidate(node, Secured()) for node in (fake, good)]
        async with running_client(servers, tmp_path) as client:
            await client.up(2)
            tunnel = client.through(fake)
            for _ in range(4):
                client.prefer(fake)
                assert await served(client) == REPLY
            await until(lambda: tunnel.state is TunnelState.DEAD)
            tries = len(client.attempts(servers[0].id))
            await asyncio.sleep(PoolTimings().frozen_pause - 30.0)
            assert len(client.attempts(servers[0].id)) == tries


async def test_a_slow_destination_is_no_reason_to_give_it_up(tmp_path: Path) -> None:
    async with nodes(1, {SITE: answer(REPLY, after=20.0)}) as made:
        hide_pages(made)
        async with running_client([candidate(made[0], Secured())], tmp_path) as client:
            (tunnel,) = await client.up(1)
            assert await served(client, POST) == REPLY
            assert client.manager.tunnels == [tunnel]
