"""The pool: who races, who wins, who is kept, and who comes back."""

import asyncio
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest

from circumvent.api import Dialer, Privacy, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream
from circumvent.errors import DialError, HandshakeError, NoTunnelError
from circumvent.memory import Account
from circumvent.state.store import Store
from circumvent.status.events import TunnelLost, TunnelUp
from circumvent.tunnels import backoff as rests
from circumvent.tunnels import manager, race
from circumvent.tunnels.live import TunnelState
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    DIAL,
    GOOD_ANSWER,
    OTHER_PROBE,
    PROBE,
    SECRET,
    FarTransport,
    all_of,
    answer,
    candidate,
    echo,
    house,
    hurry,
    never_answer,
    nodes,
    until,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


class Broken(FarTransport):
    """A plugin with a bug."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        raise ValueError(f"{entry.link} {entry.host} {dialer} {account}")


class Nameless(FarTransport):
    """A server whose name is not found three times."""

    def __init__(self, code: int) -> None:
        super().__init__("nameless")
        self.code = code
        self.left = 3

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        self.left -= 1
        if self.left < 0:
            return await super().connect(entry, dialer, account)
        raise DialError("no such name", stage="resolve", errno=self.code)


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
            await asyncio.sleep(0.1)
        finally:
            self.now -= 1
        raise DialError("nobody is there", stage="tcp", errno=111)


class Unreachable(FarTransport):
    """Every stream greets the server, and none is answered."""

    greeted = 0

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)

        async def open_(destination: Destination) -> ByteStream:
            self.greeted += 1
            raise HandshakeError(f"reset before {destination.port}", stage="tls")

        tunnel.open = open_  # type: ignore[method-assign]
        return tunnel


class TestRace:
    async def test_a_slow_candidate_does_not_hold_up_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("circumvent.tunnels.race.RACE_SECONDS", 60.0)
        async with nodes(2) as (slow, good):
            slow.freeze()
            async with house([candidate(slow), candidate(good)], tmp_path, wanted=1) as home:
                (tunnel,) = await home.up(1)
                assert tunnel is home.through(good)

    async def test_a_failure_starts_the_next_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("circumvent.tunnels.race.FIRST_STAGGER", 60.0)
        async with nodes(3) as (one, two, good):
            await one.kill()
            await two.kill()
            servers = [candidate(node) for node in (one, two, good)]
            async with house(servers, tmp_path, wanted=1) as home:
                await home.up(1)

    async def test_no_more_than_allowed_run_at_once(self, tmp_path: Path) -> None:
        transport = Counting()
        async with nodes(1) as (node,):
            servers = [candidate(node, transport) for _ in range(7)]
            async with house(servers, tmp_path, parallel=2):
                await until(lambda: transport.total >= 7)
        assert transport.most == 2

    async def test_a_stale_list_hides_its_only_good_server_not_for_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(race, "HANGING_AFTER", 0.05)
        monkeypatch.setattr(race, "RACE_SECONDS", 60.0)
        async with nodes(12) as made:
            *silent, good = made
            for node in silent:
                node.freeze()
            async with house(all_of(made), tmp_path, wanted=1, parallel=2) as home:
                assert await home.up(1) == [home.through(good)]

    async def test_losers_are_cancelled_and_give_everything_back(self, tmp_path: Path) -> None:
        async with nodes(3) as (one, two, good):
            one.freeze()
            two.freeze()
            servers = [candidate(node) for node in (one, two, good)]
            async with house(servers, tmp_path, wanted=1) as home:
                (tunnel,) = await home.up(1)
                await home.free()
                assert home.memory.charged == tunnel.charged == DIAL
                outcomes = {attempt.outcome for attempt in home.store.attempts.newest(9)}
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
    async def test_who_answers_something_else_never_wins(self, tmp_path: Path, lie: bytes) -> None:
        async with nodes(2) as (liar, honest):
            liar.talks[PROBE] = liar.talks[OTHER_PROBE] = answer(lie)
            async with house([candidate(liar), candidate(honest)], tmp_path, wanted=2) as home:
                await home.up(1)
                await until(lambda: len(home.store.attempts.newest(9, failures=True)) >= 2)
                assert home.manager.tunnels == [home.through(honest)]

    async def test_a_server_that_cannot_be_reached_is_greeted_once_for_each_try(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        transport = Unreachable("unreachable")
        async with nodes(1) as (node,), house([candidate(node, transport)], tmp_path) as home:
            await until(lambda: bool(home.store.attempts.newest(9)))
        assert transport.greeted == 1

    async def test_a_probe_target_that_is_down_condemns_nobody(self, tmp_path: Path) -> None:
        async with nodes(2) as made:
            for node in made:
                node.talks[PROBE] = never_answer
            async with house(all_of(made), tmp_path, wanted=2) as home:
                await home.up(2)
                assert not home.store.attempts.newest(9, failures=True)

    async def test_a_plugin_with_a_bug_is_reported_and_the_others_win(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,):
            broken = candidate(node, Broken("broken"))
            async with house([broken, candidate(node)], tmp_path, wanted=2) as home:
                await home.up(1)
                await until(lambda: bool(home.store.attempts.newest(9, broken.id)))
                attempt = home.store.attempts.newest(1, broken.id)[0]
                assert (attempt.what, attempt.stage) == ("race", "plugin")
                assert attempt.detail == "plugin broken broke with ValueError"

    async def test_each_attempt_is_recorded_without_secret_or_host(self, tmp_path: Path) -> None:
        async with nodes(2) as (good, gone):
            await gone.kill()
            servers = [candidate(good), candidate(gone)]
            async with house(servers, tmp_path, wanted=2) as home:
                await home.up(1)
                await until(lambda: len(home.store.attempts.newest(9)) >= 2)
                (worked,) = home.store.attempts.newest(1, servers[0].id)
                failed = home.store.attempts.newest(9, servers[1].id)[-1]
                everything = str(home.store.attempts.newest(99))
        assert (worked.what, worked.stage, worked.outcome) == ("race", "probe", "ok")
        assert worked.ms > 0
        assert worked.peak >= DIAL
        assert (failed.stage, failed.errno_name) == ("tcp", "ECONNREFUSED")
        assert SECRET not in everything
        assert "127.0" not in everything
        assert ".test" not in everything

    async def test_two_that_finish_together_are_both_kept_or_closed(self, tmp_path: Path) -> None:
        async with nodes(4) as made, house(all_of(made), tmp_path, wanted=1) as home:
            await home.up(1)
            await home.free()
            assert len(home.manager.tunnels) == 1


class TestPrivacy:
    async def test_who_hides_too_little_is_never_tried(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,):
            plain = candidate(node, FarTransport("plain", Privacy.PLAIN))
            direct = candidate(node, FarTransport("direct", Privacy.DIRECT))
            async with house([plain, direct], tmp_path) as home:
                with pytest.raises(NoTunnelError):
                    await home.manager.pick(set())
                home.health.revalidate()
                await asyncio.sleep(0.1)
                assert not home.store.attempts.newest(9)
            assert not node.visits

    async def test_who_was_asked_for_by_name_is_used(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,):
            plain = candidate(node, FarTransport("plain", Privacy.PLAIN))
            async with house([plain], tmp_path, privacy=Privacy.PLAIN) as home:
                await home.up(1)

    async def test_the_lower_class_helps_out_only_when_nobody_above_is_left(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as (first, second):
            secret = candidate(first)
            plain = candidate(second, FarTransport("plain", Privacy.PLAIN))
            async with house([plain, secret], tmp_path, privacy=Privacy.PLAIN) as home:
                await home.up(2)
                assert home.manager.tunnels[0].candidate is secret, "it raced alone at first"
                assert (await home.manager.pick(set())).candidate is secret
                await first.kill()
                home.health.revalidate()
                await until(lambda: len(home.manager.tunnels) == 1)
                assert (await home.manager.pick(set())).candidate is plain

    async def test_no_tunnel_means_refuse(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(manager, "WAIT_FOR_TUNNEL", 0.1)
        async with nodes(1) as (node,):
            await node.kill()
            async with house([candidate(node)], tmp_path) as home:
                browser = await home.visit("echo.test")
                with pytest.raises(NoTunnelError):
                    await browser.served
                assert not browser.accepted
                assert await browser.hear_out() == b""


class TestPool:
    async def test_it_keeps_as_many_as_wanted(self, tmp_path: Path) -> None:
        async with nodes(5) as made, house(all_of(made), tmp_path, wanted=3) as home:
            await home.up(3)
            await asyncio.sleep(0.1)
            assert len(home.manager.tunnels) == 3
            assert sum(isinstance(event, TunnelUp) for event in home.events) == 3

    async def test_it_prefers_what_differs_in_transport_and_network(self, tmp_path: Path) -> None:
        async with nodes(3, apart=True) as made:
            same = [candidate(made[0], FarTransport("one")) for _ in range(6)]
            servers = [*same, candidate(made[1], FarTransport("two")), candidate(made[2])]
            async with house(servers, tmp_path, wanted=3) as home:
                tunnels = await home.up(3)
        assert {tunnel.candidate.transport.name for tunnel in tunnels} == {"one", "two", "far"}
        assert len({tunnel.candidate.entry.host for tunnel in tunnels}) == 3

    async def test_a_dead_one_is_replaced_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        async with nodes(4) as made, house(all_of(made), tmp_path, wanted=3) as home:
            dead = (await home.up(3))[0]
            home.manager.lose(dead, "for the test")
            await home.up(3)
            assert dead not in home.manager.tunnels
            assert sum(isinstance(event, TunnelLost) for event in home.events) == 1

    async def test_a_hopeless_candidate_does_not_keep_others_out(self, tmp_path: Path) -> None:
        async with nodes(2) as (good, hopeless):
            hopeless.freeze()
            servers = [candidate(good), candidate(hopeless)]
            async with house(servers, tmp_path, wanted=2) as home:
                (tunnel,) = await home.up(1)
                await until(lambda: bool(hopeless.visits))
                home.manager.lose(tunnel, "for the test")
                await home.up(1)
                assert not home.store.attempts.newest(9, failures=True)  # the race still runs

    async def test_who_keeps_failing_rests_longer_each_time(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,):
            await node.kill()
            async with house([candidate(node)], tmp_path) as home:
                await until(lambda: len(home.store.attempts.newest(9)) >= 4)
                times = [attempt.at for attempt in reversed(home.store.attempts.newest(9))]
        rests = [later - earlier for earlier, later in pairwise(times)]
        assert rests[0] >= 0.045
        assert rests[1] >= 0.09
        assert rests[2] >= 0.18

    async def test_who_wins_and_dies_again_and_again_rests_longer_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("circumvent.tunnels.manager.STEADY_AFTER", 60.0)
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            for _ in range(3):
                (tunnel,) = await home.up(1)
                home.manager.lose(tunnel, "for the test")
            started = time.monotonic()
            await home.up(1)
            assert time.monotonic() - started >= 0.15

    async def test_who_lived_for_a_while_is_forgiven(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (0.06, 60.0))
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            for _ in range(4):
                (tunnel,) = await home.up(1)
                await asyncio.sleep(0.1)
                home.manager.lose(tunnel, "for the test")
            await home.up(1)

    async def test_nobody_rests_for_long_once_no_tunnel_is_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        async with nodes(2) as (good, bad):
            await bad.kill()
            servers = [candidate(good), candidate(bad)]
            async with house(servers[:1], tmp_path, wanted=2) as home:
                (tunnel,) = await home.up(1)
                home.manager.offer(servers)
                await until(lambda: bool(home.store.attempts.newest(9, failures=True)))
                await bad.start()
                home.manager.lose(tunnel, "for the test")
                await until(lambda: servers[1] in [up.candidate for up in home.manager.tunnels])

    async def test_who_waits_for_a_tunnel_ends_a_rest_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        monkeypatch.setattr(rests, "EARLY_AFTER", 0.05)
        monkeypatch.setattr(manager, "WAIT_FOR_TUNNEL", 0.15)
        async with nodes(1, {"echo.test": echo}) as (node,):
            await node.kill()
            async with house([candidate(node)], tmp_path) as home:
                await until(lambda: bool(home.store.attempts.newest(9)))
                for _ in range(3):
                    with pytest.raises(NoTunnelError):
                        await home.dispatcher.open(Destination("echo.test", 443))
                assert len(home.store.attempts.newest(9)) == 2
                await node.start()
                home.health.revalidate()
                browser = await home.visit("echo.test")
                await browser.say(b"hello")
                assert await browser.hear(5) == b"hello"

    async def test_a_server_that_comes_up_is_news_for_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        async with nodes(2) as (one, other):
            await one.kill()
            servers = all_of([one, other])
            async with house(servers[:1], tmp_path, wanted=2) as home:
                await until(lambda: bool(home.store.attempts.newest(9)))
                await one.start()
                home.manager.offer(servers)
                await home.up(2)

    @pytest.mark.parametrize(
        ("code", "is_soon"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)]
    )
    async def test_names_that_do_not_resolve_for_a_while_are_asked_for_soon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, is_soon: bool
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (0.01, 60.0))
        monkeypatch.setattr(rests, "UNTRIED", 0)
        async with (
            nodes(1) as (node,),
            house([candidate(node, Nameless(code))], tmp_path) as home,
        ):
            await until(lambda: len(home.store.attempts.newest(9)) >= 2)
            if is_soon:
                await home.up(1)
            else:
                (candidate_id,) = {attempt.server for attempt in home.store.attempts.newest(9)}
                ready_at = home.manager.backoff.ready_at
                await until(lambda: ready_at(candidate_id) > time.monotonic() + 30)

    async def test_a_fresh_network_ends_every_rest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rests, "RESTS", (60.0,))
        async with nodes(1) as (node,):
            await node.kill()
            async with house([candidate(node)], tmp_path) as home:
                await until(lambda: bool(home.store.attempts.newest(9)))
                await node.start()
                home.networks.append(b"cafe")
                home.health.look_at_network()
                await home.up(1)

    async def test_closing_in_the_middle_of_a_race_leaves_nothing(self, tmp_path: Path) -> None:
        async with nodes(3) as made:
            for node in made:
                node.freeze()
            async with house(all_of(made), tmp_path) as home:
                await until(lambda: home.memory.charged >= 2 * DIAL)

    async def test_a_client_waits_for_the_first_tunnel(self, tmp_path: Path) -> None:
        async with nodes(1, {"echo.test": echo}) as (node,):
            node.talks[PROBE] = node.talks[OTHER_PROBE] = answer(GOOD_ANSWER, after=0.1)
            async with house([candidate(node)], tmp_path) as home:
                browser = await home.visit("echo.test")
                await browser.say(b"hello")
                assert await browser.hear(5) == b"hello"


class TestMemory:
    async def test_what_worked_here_is_tried_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(race, "HANGING_AFTER", 60.0)
        async with nodes(6) as made:
            servers = all_of(made)
            async with house([servers[4]], tmp_path, wanted=1) as home:
                await home.up(1)
                home.store.flush()
            async with house(servers, tmp_path, wanted=1, parallel=1) as home:
                assert (await home.up(1))[0].candidate is servers[4]

    async def test_what_worked_elsewhere_says_nothing(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            await home.up(1)
            home.networks.append(b"cafe")
            home.health.look_at_network()
            assert not home.store.scores.on(home.manager.network)

    async def test_a_lost_tunnel_is_scored_and_its_users_failures_apart(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as made:
            servers = all_of(made)
            async with house(servers, tmp_path, wanted=2) as home:
                await home.up(2)
                for tunnel in tuple(home.manager.tunnels):
                    tunnel.bytes_down = 5000
                    users_failed = tunnel.candidate is servers[0]
                    home.manager.lose(tunnel, "for the test", users_failed=users_failed)
                    assert tunnel.state is TunnelState.DEAD
                scores = home.store.scores.on(home.manager.network)
        by_users, by_probe = (scores[server.id] for server in servers)
        assert (by_users.failures, by_users.user_failures) == (0, 1)
        assert (by_probe.failures, by_probe.user_failures) == (1, 0)

    async def test_an_old_state_file_of_another_life_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(race, "HANGING_AFTER", 60.0)
        store = Store(tmp_path / "state.db")
        network = store.scores.network_id(b"home")
        async with nodes(3) as made:
            servers = all_of(made)
            for bad in servers[:2]:
                store.scores.remember(network, bad.id, ok=False, ms=0.0, user_bytes=0)
            store.scores.remember(network, servers[2].id, ok=True, ms=5.0, user_bytes=0)
            store.close()
            async with house(servers, tmp_path, wanted=1, parallel=1) as home:
                assert (await home.up(1))[0].candidate is servers[2]
