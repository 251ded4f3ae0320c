"""Health: silence is suspected, a probe decides, and users' traffic has a say of its own."""

import asyncio
import errno
import time
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.streams import ByteStream, Vitals
from circumvent.errors import DialError
from circumvent.memory import Account
from circumvent.net.patience import note_answered
from circumvent.net.tcp import TcpStream
from circumvent.tunnels import health
from circumvent.tunnels.live import PROVEN_BYTES, TunnelState
from circumvent.tunnels.vitals import is_frozen
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    GOOD_ANSWER,
    OTHER_PROBE,
    PROBE,
    FarTransport,
    Talk,
    Visit,
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
from tests.unit.test_client_hello import HELLO
from tests.unit.test_dispatch import POST, REPLY, SITE, prefer

PATIENCE = 0.12  # as scaled by ``hurry``


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


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


async def shake_hands(visit: Visit) -> None:
    await visit.say(b"hello")


class TestFreeze:
    async def test_new_streams_go_elsewhere_before_the_verdict(self, tmp_path: Path) -> None:
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            prefer(home, made[0])
            tunnel = home.through(made[0])
            made[0].freeze()
            waiting = await home.visit(SITE)
            await waiting.say(POST)
            started = time.monotonic()
            await until(lambda: tunnel.state is not TunnelState.UP)
            assert time.monotonic() - started >= PATIENCE / 2
            assert tunnel.state is TunnelState.SUSPECTED
            browser = await home.visit(SITE)
            await browser.say(POST)
            assert await browser.hear(len(POST)) == POST
            assert tunnel.state is TunnelState.SUSPECTED

    async def test_a_frozen_server_dies_and_its_streams_are_reset(self, tmp_path: Path) -> None:
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            prefer(home, made[0])
            tunnel = home.through(made[0])
            browser = await home.visit(SITE)
            await browser.say(POST)
            await browser.hear(len(POST))
            made[0].freeze()
            await browser.say(POST)
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()
            assert tunnel.state is TunnelState.DEAD
            failed = home.store.attempts.newest(9, failures=True)
            assert [(attempt.what, attempt.stage) for attempt in failed][-1] == ("probe", "probe")
            assert all(attempt.what != "stream" for attempt in failed)

    async def test_others_race_before_the_verdict_on_the_only_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "PROBE_SECONDS", 3.0)
        monkeypatch.setattr("circumvent.tunnels.backoff.RESTS", (60.0,))
        async with nodes(2, {SITE: echo}) as (only, other):
            await other.kill()
            async with house(all_of([only, other]), tmp_path) as home:
                (tunnel,) = await home.up(1)
                await until(lambda: bool(home.store.attempts.newest(9, failures=True)))
                await other.start()
                await asyncio.sleep(0.3)
                only.freeze()
                home.health.suspect(tunnel)
                await home.up(2)
                assert tunnel.state is TunnelState.SUSPECTED

    async def test_a_hello_on_a_frozen_server_is_answered_by_another(self, tmp_path: Path) -> None:
        async with nodes(2, {SITE: answer(REPLY)}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            prefer(home, made[0])
            made[0].freeze()
            browser = await home.visit(SITE)
            await browser.say(HELLO)
            assert await browser.hear(len(REPLY)) == REPLY

    async def test_a_handshake_with_a_frozen_server_is_not_waited_for(self, tmp_path: Path) -> None:
        async def greeted_echo(visit: Visit) -> None:
            await shake_hands(visit)
            await echo(visit)

        async def greeted_probe(visit: Visit) -> None:
            await shake_hands(visit)
            await answer(b"HTTP/1.1 204 No Content\r\n\r\n")(visit)

        talks = {SITE: greeted_echo, PROBE: greeted_probe, OTHER_PROBE: greeted_probe}
        async with nodes(2, talks) as made:
            servers = [candidate(node, Greeted()) for node in made]
            async with house(servers, tmp_path) as home:
                await home.up(2)
                prefer(home, made[0])
                tunnel = home.through(made[0])
                made[0].freeze()
                browser = await home.visit(SITE)
                await browser.say(POST)
                assert await browser.hear(len(POST)) == POST
                assert tunnel.state is TunnelState.SUSPECTED

    async def test_who_hangs_in_a_handshake_goes_to_the_one_that_comes_up_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "ALL_SILENT", 60.0)

        async def greeted_echo(visit: Visit) -> None:
            await shake_hands(visit)
            await echo(visit)

        async def greeted_probe(visit: Visit) -> None:
            await shake_hands(visit)
            await answer(GOOD_ANSWER)(visit)

        talks = {SITE: greeted_echo, PROBE: greeted_probe, OTHER_PROBE: greeted_probe}
        async with nodes(2, talks) as (only, other):
            await other.kill()
            servers = [candidate(node, Greeted()) for node in (only, other)]
            async with house(servers, tmp_path) as home:
                (tunnel,) = await home.up(1)
                only.freeze()
                browser = await home.visit(SITE)
                await browser.say(POST)
                await until(lambda: tunnel.silent_since > 0)
                await other.start()
                assert await browser.hear(len(POST)) == POST

    async def test_others_race_beside_a_full_pool_in_which_all_are_silent(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as made, house(all_of(made), tmp_path, wanted=1) as home:
            (tunnel,) = await home.up(1)
            silent = next(node for node in made if node.port == tunnel.candidate.entry.port)
            silent.freeze()
            home.health.suspect(tunnel)
            await until(lambda: home.manager.tunnels not in ([], [tunnel]))
            await until(lambda: tunnel.state is TunnelState.DEAD)

    async def test_a_slow_destination_fails_nobody_over(self, tmp_path: Path) -> None:
        slow = answer(REPLY, after=5 * PATIENCE)
        async with nodes(2, {SITE: slow}) as made, house(all_of(made), tmp_path) as home:
            tunnels = await home.up(2)
            browsers = [await home.visit(SITE) for _ in range(4)]
            for browser, words in zip(browsers, (HELLO, POST, HELLO, POST), strict=True):
                await browser.say(words)
            for browser in browsers:
                assert await browser.hear(len(REPLY)) == REPLY
            assert home.manager.tunnels == tunnels
            assert sum(len(node.visits_to(SITE)) for node in made) == 4
            probes = [probe for probe in home.store.attempts.newest(99) if probe.what == "probe"]
            assert 0 < len(probes) <= 8  # patience grows with each acquittal

    async def test_one_target_that_is_down_does_not_condemn(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: never_answer}) as (node,):
            servers = [candidate(node)]
            async with house(servers, tmp_path) as home:
                (tunnel,) = await home.up(1)
                node.talks[PROBE] = never_answer
                for _ in range(2):  # whichever target comes first
                    home.health.suspect(tunnel)
                    await until(lambda: tunnel.state is not TunnelState.SUSPECTED)
                    assert home.manager.tunnels == [tunnel]

    async def test_two_targets_that_are_down_do(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)
            node.talks[PROBE] = node.talks[OTHER_PROBE] = never_answer
            home.health.suspect(tunnel)
            await until(lambda: tunnel.state is TunnelState.DEAD)

    async def test_a_killed_server_is_replaced_soon(self, tmp_path: Path) -> None:
        async with nodes(3, {SITE: answer(REPLY)}) as made:
            servers = all_of(made)
            async with house(servers, tmp_path, wanted=2) as home:
                await home.up(2)
                port = home.manager.tunnels[0].candidate.entry.port
                victim = next(node for node in made if node.port == port)
                tunnel = home.through(victim)
                prefer(home, victim)
                await victim.kill()
                browser = await home.visit(SITE)
                await browser.say(HELLO)
                assert await browser.hear(len(REPLY)) == REPLY
                await until(lambda: tunnel.state is TunnelState.DEAD)
                await home.up(2)

    async def test_a_plugin_whose_probe_breaks_is_dead_and_no_task_dies(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)

            async def break_down(destination: Destination) -> ByteStream:
                raise KeyError(destination)

            tunnel.tunnel.open = break_down  # type: ignore[method-assign]
            home.health.suspect(tunnel)
            await until(lambda: tunnel.state is TunnelState.DEAD)
            (failed,) = home.store.attempts.newest(9, failures=True)
            assert (failed.what, failed.stage) == ("probe", "plugin")


class TestUsersTraffic:
    async def test_flows_that_freeze_while_probes_pass_end_in_replacement(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: freeze_after(16 << 10)}) as (node,):
            server = candidate(node)
            async with house([server], tmp_path) as home:
                (tunnel,) = await home.up(1)
                for browser in [await home.visit(SITE) for _ in range(3)]:
                    await browser.say(POST)
                    await browser.hear(16 << 10)
                    await browser.say(b"more, please")
                await until(lambda: tunnel.state is TunnelState.DEAD)
                score = home.store.scores.on(home.manager.network)[server.id]
                assert (score.failures, score.user_failures) == (0, 1)
                assert "users' traffic freezes" in str(home.events)

    async def test_who_fails_users_alone_rests_long_though_it_would_win_the_next_race(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as made, house(all_of(made), tmp_path) as home:
            tunnel = (await home.up(2))[0]
            home.manager.lose(tunnel, "probes pass", users_failed=True)
            await asyncio.sleep(0.3)  # several times as long as another would rest
            assert len(home.manager.tunnels) == 1

    async def test_on_a_proven_path_only_the_frozen_stream_is_cut(self, tmp_path: Path) -> None:
        talks = {SITE: freeze_after(PROVEN_BYTES), "live.test": echo}
        async with nodes(1, talks) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            other = await home.visit("live.test")
            for browser in [await home.visit(SITE) for _ in range(3)]:
                await browser.say(POST)
                await browser.hear(PROVEN_BYTES)
                await browser.say(b"more, please")
                with pytest.raises(ConnectionResetError):
                    await browser.hear_out()
            await other.say(POST)
            assert await other.hear(len(POST)) == POST
            assert home.manager.tunnels == [tunnel]
            frozen = home.store.attempts.newest(9, failures=True)
            assert {(attempt.what, attempt.stage) for attempt in frozen} == {("stream", "freeze")}

    async def test_silence_alone_is_no_freeze(self, tmp_path: Path) -> None:
        async def greet_and_listen(visit: Visit) -> None:
            await visit.hear()
            await visit.say(b"x")
            await never_answer(visit)

        talks = {SITE: greet_and_listen}
        async with nodes(1, talks) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            for browser in [await home.visit(SITE) for _ in range(4)]:
                await browser.say(POST)
                await browser.hear(1)
                await browser.say(POST)
            streams = {stream.stream for stream in tunnel.streams}
            await asyncio.sleep(0.6)  # twice as long as a path may give no sign
            assert home.manager.tunnels == [tunnel]
            assert {stream.stream for stream in tunnel.streams} == streams


def freeze_after(size: int) -> Talk:
    """A server behind a filter that lets so many bytes of each flow pass."""

    async def talk(visit: Visit) -> None:
        await visit.hear()
        await visit.say(bytes(size))
        visit.freeze()
        await asyncio.Event().wait()

    return talk


class TestOwnTrouble:
    async def test_a_steady_upload_is_life(self, tmp_path: Path) -> None:
        async def greet_and_take(visit: Visit) -> None:
            await visit.say(b"x")
            await never_answer(visit)

        talks = {SITE: greet_and_take}
        async with nodes(1, talks) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            uploads = [await home.visit(SITE, 25) for _ in range(4)]  # where servers speak first
            for upload in uploads:
                await upload.hear(1)
            for _ in range(12):
                for upload in uploads:
                    await upload.say(b"u" * 2000)
                await asyncio.sleep(0.05)
            assert home.manager.tunnels == [tunnel]
            assert len(tunnel.streams) == len(uploads)

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOBUFS, errno.ENETUNREACH])
    async def test_what_this_machine_lacks_is_no_evidence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            browser = await home.visit(SITE)
            await browser.say(POST)
            await browser.hear(len(POST))

            async def fail(*_: object) -> TcpStream:
                raise DialError("nothing left", stage="tcp", errno=code)

            with monkeypatch.context() as patch:
                patch.setattr("circumvent.net.tcp.connect", fail)
                refused = await home.visit(SITE)
                with pytest.raises(ConnectionResetError):
                    await refused.hear_out()
                home.health.suspect(tunnel)
                probes = 3
                await until(lambda: len(home.store.attempts.newest(99, failures=True)) >= probes)
            await until(lambda: tunnel.state is TunnelState.UP)
            await browser.say(POST)
            assert await browser.hear(len(POST)) == POST

    async def test_a_machine_that_stood_still_condemns_nobody(self, tmp_path: Path) -> None:
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            tunnels = await home.up(2)
            browser = await home.visit(SITE)
            await browser.say(POST)
            await browser.hear(len(POST))
            home.health.revalidate()
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # noqa: ASYNC251 - nothing of ours runs, and all deadlines pass
            await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))
            assert home.manager.tunnels == tunnels
            await browser.say(POST)
            assert await browser.hear(len(POST)) == POST

    async def test_nor_does_it_acquit_anybody(self, tmp_path: Path) -> None:
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)
            node.freeze()
            home.health.suspect(tunnel)
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # noqa: ASYNC251 - as above
            states = set()
            while tunnel.state is not TunnelState.DEAD:
                states.add(tunnel.state)
                await asyncio.sleep(0.005)
            assert states == {TunnelState.SUSPECTED}

    async def test_if_all_are_silent_at_once_it_is_the_network_and_streams_are_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "ALL_SILENT", 60.0)
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            tunnels = await home.up(2)
            browser = await home.visit(SITE)
            await browser.say(POST)
            await browser.hear(len(POST))
            for node in made:
                node.freeze()
            await browser.say(POST)
            await until(lambda: all(tunnel.silent_since for tunnel in tunnels))
            for node in made:
                node.thawed.set()
            assert await browser.hear(len(POST)) == POST
            await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))
            assert home.manager.tunnels == tunnels

    def test_after_an_outage_a_path_has_as_long_again_to_give_a_sign(self) -> None:
        silent = Vitals(silence=12.0, unanswered=6, rtt=0.1, queueing=0.0)
        assert is_frozen(silent, asked_for=11.0, works_for=7.0, slack=0.0)
        assert not is_frozen(silent, asked_for=11.0, works_for=4.0, slack=0.0)
        assert not is_frozen(silent, asked_for=0.2, works_for=7.0, slack=0.0)
        assert not is_frozen(silent, asked_for=11.0, works_for=7.0, slack=12.0)

    async def test_a_server_that_shakes_hands_lives_though_its_pages_do_not(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1) as (node,), house([candidate(node, Secured())], tmp_path) as home:
            (tunnel,) = await home.up(1)
            node.talks[PROBE] = node.talks[OTHER_PROBE] = never_answer
            home.health.suspect(tunnel)
            await until(lambda: tunnel.misses == 1)
            assert tunnel.state is TunnelState.SUSPECTED
            node.talks[PROBE] = node.talks[OTHER_PROBE] = answer(GOOD_ANSWER)
            await until(lambda: tunnel.state is TunnelState.UP)
            node.talks[PROBE] = node.talks[OTHER_PROBE] = never_answer
            home.health.suspect(tunnel)
            await until(lambda: tunnel.state is TunnelState.DEAD)


class TestChange:
    async def test_waking_from_sleep_probes_every_tunnel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with nodes(3) as made, house(all_of(made), tmp_path) as home:
            tunnels = await home.up(3)
            made[0].freeze()
            clock = count(1e9, 3600.0)  # an hour passes at each look
            monkeypatch.setattr(health, "wall_clock", lambda: next(clock))
            await until(lambda: len(home.manager.tunnels) == 2)
            assert home.through(made[1]) in tunnels
            assert home.through(made[2]) in tunnels

    async def test_another_network_probes_every_tunnel(self, tmp_path: Path) -> None:
        async with nodes(2) as made, house(all_of(made), tmp_path) as home:
            tunnels = await home.up(2)
            before = home.manager.network
            home.health.look_at_network()
            assert {tunnel.state for tunnel in tunnels} == {TunnelState.UP}
            home.networks.append(b"cafe")
            home.health.look_at_network()
            assert home.manager.network != before
            assert {tunnel.state for tunnel in tunnels} == {TunnelState.SUSPECTED}
            assert home.forgotten == [b"cafe"]
            await until(lambda: all(tunnel.state is TunnelState.UP for tunnel in tunnels))

    async def test_more_to_know_of_the_same_network_is_no_change(self, tmp_path: Path) -> None:
        async with nodes(1) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            before = home.manager.network
            home.networks.append(b"home with its MAC")
            home.health.look_at_network()
            assert home.manager.network != before, "another start may know it at once"
            assert tunnel.state is TunnelState.UP
            assert not home.forgotten

    async def test_nowhere_for_a_moment_probes_the_tunnels_but_forgets_nothing(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            before = home.manager.network
            home.networks.append(b"")
            home.health.look_at_network()
            assert (home.manager.network, tunnel.state) == (before, TunnelState.UP)
            home.networks.append(b"home")
            home.health.look_at_network()
            assert (home.manager.network, tunnel.state) == (before, TunnelState.SUSPECTED)
            assert not home.forgotten

    async def test_from_one_network_over_nowhere_to_another_is_a_change(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            for name in (b"", b"cafe"):
                home.networks.append(name)
                home.health.look_at_network()
            assert home.forgotten == [b"cafe"]

    async def test_an_idle_tunnel_is_probed_now_and_then(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "FIRST_LOOK", (0.05, 0.1))
        monkeypatch.setattr(health, "IDLE_PROBE", (0.05, 0.1))
        async with nodes(1) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)
            await until(lambda: tunnel.verified_at > 0)
            assert tunnel.state is TunnelState.UP
            node.freeze()
            await until(lambda: tunnel.state is TunnelState.DEAD)
