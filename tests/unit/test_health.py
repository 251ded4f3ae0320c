"""Silence is suspected, and a probe decides: a tunnel is dead, or only slow."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.memory import Account
from circumvent.tunnels.live import TunnelState
from circumvent.tunnels.timings import (
    StreamTimings,
)
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    GOOD_ANSWER,
    OTHER_PROBE,
    PROBE,
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
from tests.unit.test_client_hello import HELLO
from tests.unit.test_failover import POST, REPLY, SITE
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time
PATIENCE = StreamTimings().patience


class Greeted(FarTransport):
    """Opening a stream takes an answer of the server, as a handshake does."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)
        tunnel.open = self._greeted(tunnel)  # type: ignore[method-assign, assignment]
        return tunnel

    def _greeted(
        self, tunnel: Tunnel
    ) -> Callable[[Destination], Coroutine[object, object, ByteStream]]:
        right = tunnel.open

        async def open_and_wait(destination: Destination) -> ByteStream:
            stream = await right(destination)
            try:
                header = stream.headroom
                stream.write(memoryview(bytearray(header)), header, header)
                while stream.read_into(memoryview(bytearray(5))) is None:
                    await stream.wait_readable()
            except BaseException:
                stream.abort()
                raise
            return stream

        return open_and_wait


async def shake_hands(stream: FarStream) -> None:
    await stream.send(b"hello")


async def test_new_streams_go_elsewhere_before_the_verdict(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        client.prefer(made[0])
        tunnel = client.through(made[0])
        made[0].freeze()
        waiting = await client.browse(SITE)
        await waiting.send(POST)
        assert await until(lambda: tunnel.state is not TunnelState.UP) >= PATIENCE
        assert tunnel.state is TunnelState.SUSPECTED
        browser = await client.browse(SITE)
        await browser.send(POST)
        assert await browser.receive_exactly(len(POST)) == POST
        assert tunnel.state is TunnelState.SUSPECTED


async def test_a_frozen_server_dies_and_its_streams_are_reset(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as made, running_client(all_of(made), tmp_path) as client:
        await client.up(2)
        client.prefer(made[0])
        tunnel = client.through(made[0])
        browser = await client.browse(SITE)
        await browser.send(POST)
        await browser.receive_exactly(len(POST))
        made[0].freeze()
        await browser.send(POST)
        with pytest.raises(ConnectionResetError):
            await browser.receive_all()
        assert tunnel.state is TunnelState.DEAD
        failed = client.failures()
        assert [(attempt.what, attempt.stage) for attempt in failed][-1] == ("probe", "probe")
        assert all(attempt.what != "stream" for attempt in failed)


async def test_others_race_before_the_verdict_on_the_only_one(tmp_path: Path) -> None:
    async with nodes(2, {SITE: echo}) as (only, other):
        await other.kill()
        async with running_client(all_of([only, other]), tmp_path) as client:
            (tunnel,) = await client.up(1)
            await until(lambda: bool(client.failures()))
            other.start()
            await asyncio.sleep(60.0)
            only.freeze()
            client.health.suspect(tunnel)
            await client.up(2)
            assert tunnel.state is TunnelState.SUSPECTED


async def test_a_hello_on_a_frozen_server_is_answered_by_another(tmp_path: Path) -> None:
    async with (
        nodes(2, {SITE: answer(REPLY)}) as made,
        running_client(all_of(made), tmp_path) as client,
    ):
        await client.up(2)
        client.prefer(made[0])
        made[0].freeze()
        browser = await client.browse(SITE)
        await browser.send(HELLO)
        assert await browser.receive_exactly(len(REPLY)) == REPLY


async def test_a_handshake_with_a_frozen_server_is_not_waited_for(tmp_path: Path) -> None:
    async def greeted_echo(stream: FarStream) -> None:
        await shake_hands(stream)
        await echo(stream)

    async def greeted_probe(stream: FarStream) -> None:
        await shake_hands(stream)
        await answer(b"HTTP/1.1 204 No Content\r\n\r\n")(stream)

    handlers = {SITE: greeted_echo, PROBE: greeted_probe, OTHER_PROBE: greeted_probe}
    async with nodes(2, handlers) as made:
        servers = [candidate(node, Greeted()) for node in made]
        async with running_client(servers, tmp_path) as client:
            await client.up(2)
            client.prefer(made[0])
            tunnel = client.through(made[0])
            made[0].freeze()
            browser = await client.browse(SITE)
            await browser.send(POST)
            assert await browser.receive_exactly(len(POST)) == POST
            assert tunnel.state is TunnelState.SUSPECTED


async def test_who_hangs_in_a_handshake_goes_to_the_one_that_comes_up_later(tmp_path: Path) -> None:

    async def greeted_echo(stream: FarStream) -> None:
        await shake_hands(stream)
        await echo(stream)

    async def greeted_probe(stream: FarStream) -> None:
        await shake_hands(stream)
        await answer(GOOD_ANSWER)(stream)

    handlers = {SITE: greeted_echo, PROBE: greeted_probe, OTHER_PROBE: greeted_probe}
    async with nodes(2, handlers) as (only, other):
        await other.kill()
        servers = [candidate(node, Greeted()) for node in (only, other)]
        async with running_client(servers, tmp_path) as client:
            (tunnel,) = await client.up(1)
            only.freeze()
            browser = await client.browse(SITE)
            await browser.send(POST)
            await until(lambda: tunnel.silent_since > 0)
            other.start()
            assert await browser.receive_exactly(len(POST)) == POST


async def test_others_race_beside_a_full_pool_in_which_all_are_silent(tmp_path: Path) -> None:
    async with nodes(2) as made, running_client(all_of(made), tmp_path, wanted=1) as client:
        (tunnel,) = await client.up(1)
        silent = next(node for node in made if node.port == tunnel.candidate.entry.port)
        silent.freeze()
        client.health.suspect(tunnel)
        await until(lambda: client.manager.tunnels not in ([], [tunnel]))
        await until(lambda: tunnel.state is TunnelState.DEAD)


async def test_a_slow_destination_fails_nobody_over(tmp_path: Path) -> None:
    slow = answer(REPLY, after=5 * PATIENCE)
    async with nodes(2, {SITE: slow}) as made, running_client(all_of(made), tmp_path) as client:
        tunnels = await client.up(2)
        browsers = [await client.browse(SITE) for _ in range(4)]
        for browser, words in zip(browsers, (HELLO, POST, HELLO, POST), strict=True):
            await browser.send(words)
        for browser in browsers:
            assert await browser.receive_exactly(len(REPLY)) == REPLY
        assert client.manager.tunnels == tunnels
        assert sum(len(node.streams_to(SITE)) for node in made) == 4
        probes = [probe for probe in client.attempts() if probe.what == "probe"]
        assert 0 < len(probes) <= 8  # patience grows with each acquittal


async def test_one_target_that_is_down_does_not_condemn(tmp_path: Path) -> None:
    async with nodes(1, {SITE: never_answer}) as (node,):
        servers = [candidate(node)]
        async with running_client(servers, tmp_path) as client:
            (tunnel,) = await client.up(1)
            node.handlers[PROBE] = never_answer
            for _ in range(2):  # whichever target comes first
                client.health.suspect(tunnel)
                await until(lambda: tunnel.state is not TunnelState.SUSPECTED)
                assert client.manager.tunnels == [tunnel]


async def test_two_targets_that_are_down_do(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        (tunnel,) = await client.up(1)
        node.answer_probes(never_answer)
        client.health.suspect(tunnel)
        await until(lambda: tunnel.state is TunnelState.DEAD)


async def test_a_killed_server_is_replaced_soon(tmp_path: Path) -> None:
    async with nodes(3, {SITE: answer(REPLY)}) as made:
        servers = all_of(made)
        async with running_client(servers, tmp_path, wanted=2) as client:
            await client.up(2)
            port = client.manager.tunnels[0].candidate.entry.port
            victim = next(node for node in made if node.port == port)
            tunnel = client.through(victim)
            client.prefer(victim)
            await victim.kill()
            browser = await client.browse(SITE)
            await browser.send(HELLO)
            assert await browser.receive_exactly(len(REPLY)) == REPLY
            await until(lambda: tunnel.state is TunnelState.DEAD)
            await client.up(2)


async def test_a_plugin_whose_probe_breaks_is_dead_and_no_task_dies(tmp_path: Path) -> None:
    async with nodes(1) as (node,), running_client([candidate(node)], tmp_path) as client:
        (tunnel,) = await client.up(1)

        async def break_down(destination: Destination) -> ByteStream:
            raise KeyError(destination)

        tunnel.tunnel.open = break_down  # type: ignore[method-assign]
        client.health.suspect(tunnel)
        await until(lambda: tunnel.state is TunnelState.DEAD)
        (failed,) = client.failures()
        assert (failed.what, failed.stage) == ("probe", "plugin")
