"""The race: who starts when, who wins, and what losers leave."""

import asyncio
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.errors import (
    DialError,
    HandshakeError,
)
from circumvent.memory import Account
from circumvent.status.events import NoneUp
from circumvent.tunnels.timings import RaceTimings
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    DIAL,
    PROBE,
    SECRET,
    FarTransport,
    all_of,
    answer,
    candidate,
    never_answer,
    nodes,
)
from tests.unit.running_client import running_client
from tests.virtual.loop import until

pytestmark = pytest.mark.virtual_time


class Broken(FarTransport):
    """A plugin with a bug."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        raise ValueError(f"{entry.link} {entry.host} {dialer} {account}")


class Counting(FarTransport):
    """Counts how many connect at the same time; nobody ever arrives."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.now = self.most = self.total = 0

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        assert account.charged == DIAL, (entry, dialer)
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.3)  # longer than the next start is put off
        finally:
            self.now -= 1
        raise DialError("nobody is there", stage="tcp", errno=111)


class Closable(FarTransport):
    """Counts the tunnels that were closed."""

    closed = 0

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)

        async def aclose() -> None:
            self.closed += 1

        tunnel.aclose = aclose  # type: ignore[method-assign]
        return tunnel


class Unreachable(FarTransport):
    """Every stream begins a handshake with the server, and none is answered."""

    handshakes = 0

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)

        async def open_(destination: Destination) -> ByteStream:
            self.handshakes += 1
            raise HandshakeError(f"reset before {destination.port}", stage="tls")

        tunnel.open = open_  # type: ignore[method-assign]
        return tunnel


async def test_a_slow_candidate_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async with nodes(2) as (slow, good):
        slow.freeze()
        async with running_client([candidate(slow), candidate(good)], tmp_path, wanted=1) as client:
            assert await until(lambda: client.manager.tunnels) < 2 * RaceTimings().first_stagger
            assert client.manager.tunnels == [client.through(good)]


async def test_a_failure_starts_the_next_at_once(tmp_path: Path) -> None:
    async with nodes(3) as (one, two, good):
        await one.kill()
        await two.kill()
        servers = [candidate(node) for node in (one, two, good)]
        async with running_client(servers, tmp_path, wanted=1) as client:
            assert await until(lambda: client.manager.tunnels) < RaceTimings().first_stagger


async def test_no_more_than_allowed_run_at_once(tmp_path: Path) -> None:
    transport = Counting()
    async with nodes(1) as (node,):
        servers = [candidate(node, transport) for _ in range(7)]
        async with running_client(servers, tmp_path, parallel=2):
            await until(lambda: transport.total >= 7)
    assert transport.most == 2


async def test_a_stale_list_does_not_hide_its_only_good_server_for_long(tmp_path: Path) -> None:
    async with nodes(12) as made:
        *silent, good = made
        for node in silent:
            node.freeze()
        async with running_client(all_of(made), tmp_path, wanted=1, parallel=2) as client:
            assert await until(lambda: client.manager.tunnels) < RaceTimings().seconds
            assert client.manager.tunnels == [client.through(good)]


async def test_losers_are_cancelled_and_give_everything_back(tmp_path: Path) -> None:
    async with nodes(3) as (one, two, good):
        one.freeze()
        two.freeze()
        servers = [candidate(node) for node in (one, two, good)]
        async with running_client(servers, tmp_path, wanted=1) as client:
            (tunnel,) = await client.up(1)
            await client.free()
            assert client.memory.charged == tunnel.charged == DIAL
            outcomes = {attempt.outcome for attempt in client.attempts()}
            assert outcomes <= {"ok", "cancelled"}


@pytest.mark.parametrize(
    "lie",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://blocked.test/\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"204",
        b"x" * 10_000,
    ],
)
async def test_a_server_that_answers_something_else_never_wins(tmp_path: Path, lie: bytes) -> None:
    async with nodes(2) as (liar, honest):
        liar.answer_probes(answer(lie))
        async with running_client(
            [candidate(liar), candidate(honest)], tmp_path, wanted=2
        ) as client:
            await client.up(1)
            await until(lambda: len(client.failures()) >= 2)
            assert client.manager.tunnels == [client.through(honest)]


async def test_each_try_of_an_unreachable_server_is_one_handshake(tmp_path: Path) -> None:
    transport = Unreachable("unreachable")
    async with (
        nodes(1) as (node,),
        running_client([candidate(node, transport)], tmp_path) as client,
    ):
        await until(lambda: bool(client.attempts()))
    assert transport.handshakes == 1


async def test_a_probe_target_that_is_down_condemns_no_server(tmp_path: Path) -> None:
    async with nodes(2) as made:
        for node in made:
            node.handlers[PROBE] = never_answer
        async with running_client(all_of(made), tmp_path, wanted=2) as client:
            await client.up(2)
            assert not client.failures()


async def test_a_plugin_with_a_bug_is_reported_and_the_others_win(tmp_path: Path) -> None:
    async with nodes(1) as (node,):
        broken = candidate(node, Broken("broken"))
        async with running_client([broken, candidate(node)], tmp_path, wanted=2) as client:
            await client.up(1)
            await until(lambda: bool(client.attempts(broken.id)))
            attempt = client.attempts(broken.id)[0]
            assert (attempt.what, attempt.stage) == ("race", "plugin")
            assert attempt.detail == "plugin broken broke with ValueError"


async def test_each_attempt_is_recorded_without_secret_or_host(tmp_path: Path) -> None:
    async with nodes(2) as (good, gone):
        await gone.kill()
        servers = [candidate(good), candidate(gone)]
        async with running_client(servers, tmp_path, wanted=2) as client:
            await client.up(1)
            await until(lambda: len(client.attempts()) >= 2)
            (worked,) = client.attempts(servers[0].id)
            failed = client.attempts(servers[1].id)[-1]
            everything = str(client.attempts())
    assert (worked.what, worked.stage, worked.outcome) == ("race", "probe", "ok")
    assert worked.ms > 0
    assert worked.peak >= DIAL
    assert (failed.stage, failed.errno_name) == ("tcp", "ECONNREFUSED")
    assert SECRET not in everything
    assert "127.0" not in everything
    assert ".test" not in everything


async def test_two_that_finish_together_are_both_kept_or_closed(tmp_path: Path) -> None:
    async with nodes(4) as made, running_client(all_of(made), tmp_path, wanted=1) as client:
        await client.up(1)
        await client.free()
        assert len(client.manager.tunnels) == 1


async def test_when_none_wins_the_user_hears_how_many_failed_and_why(tmp_path: Path) -> None:
    async with nodes(2) as made:
        for node in made:
            node.answer_probes(answer(b""))
        async with running_client(all_of(made), tmp_path) as client:
            await until(lambda: any(isinstance(event, NoneUp) for event in client.events))
            first = next(event for event in client.events if isinstance(event, NoneUp))
    assert (first.failed, first.reason.rpartition(": ")[2]) == (2, "the tunnel was closed")


async def test_every_tunnel_is_closed_when_the_client_stops(tmp_path: Path) -> None:
    transport = Closable("closable")
    async with nodes(2) as made:
        servers = [candidate(node, transport) for node in made]
        async with running_client(servers, tmp_path) as client:
            await client.up(2)
            assert transport.closed == 0
    assert transport.closed == 2
