"""Dispatch: each stream gets a tunnel, another one if that fails in time, and nothing twice."""

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from circumvent.api import Dialer, ServerEntry, Tunnel
from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream
from circumvent.errors import DestinationError, NoTunnelError, Reason, StreamResetError
from circumvent.layers.exchange import receive, send
from circumvent.memory import Account
from circumvent.net import sockets
from circumvent.net.tcp import TcpStream
from circumvent.tunnels import carry, live
from circumvent.tunnels.live import LiveTunnel, TunnelState
from circumvent.wire.address import Destination
from tests.unit.far_side import (
    OTHER_PROBE,
    PROBE,
    Browser,
    FarTransport,
    House,
    Node,
    Talk,
    Visit,
    all_of,
    answer,
    candidate,
    connected_pair,
    echo,
    house,
    hurry,
    never_answer,
    nodes,
    until,
)
from tests.unit.test_client_hello import HELLO, make_body, make_extension, make_message, make_record

SITE = "site.test"
REPLY = b"\x16\x03\x03 server hello"
POST = b"POST /buy HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\none"
EARLY = make_record(make_message(make_body(make_extension(42))))
BIG = random.Random(1).randbytes(3 << 20)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def reset(visit: Visit) -> None:
    """Break the connection when something came."""
    await visit.hear(16)
    visit.reset()


async def close(visit: Visit) -> None:
    """Say nothing and close when something came."""
    await visit.hear(16)


def prefer(home: House, node: Node) -> None:
    """Make ``node``'s tunnel everybody's first choice."""
    for tunnel in home.manager.tunnels:
        tunnel.rtt = 0.001 if tunnel is home.through(node) else 0.1


async def ask_frozen_session(home: House, node: Node, words: bytes) -> Browser:
    """Say something through a tunnel that is silent, and may come back."""
    prefer(home, node)
    node.freeze()
    browser = await home.visit(SITE)
    await browser.say(words)
    await until(lambda: bool(home.through(node).streams))
    home.through(node).tunnel.resumes = True
    return browser


class TestFailover:
    async def test_a_dead_servers_refusal_is_not_seen(self, tmp_path: Path) -> None:
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            prefer(home, made[0])
            await made[0].kill()
            browser = await home.visit(SITE)
            await browser.say(POST)
            assert await browser.hear(len(POST)) == POST
            assert browser.accepted == [True]
            await until(lambda: len(home.manager.tunnels) == 1)
            failed = home.store.attempts.newest(9, failures=True)
            stream = next(attempt for attempt in failed if attempt.what == "stream")
            assert (stream.stage, stream.errno_name) == ("tcp", "ECONNREFUSED")
            assert SITE not in str(failed)

    @pytest.mark.parametrize("fails", [reset, close])
    async def test_a_client_hello_moves_to_a_second_tunnel(
        self, fails: Talk, tmp_path: Path
    ) -> None:
        async with nodes(2) as (bad, good):
            bad.talks[SITE], good.talks[SITE] = fails, answer(REPLY)
            async with house(all_of([bad, good]), tmp_path) as home:
                await home.up(2)
                prefer(home, bad)
                browser = await home.visit(SITE)
                await browser.say(HELLO)
                assert await browser.hear(len(REPLY)) == REPLY
                assert browser.accepted == [True]
            assert bad.visits_to(SITE)[0].heard == HELLO
            assert [visit.heard for visit in good.visits_to(SITE)] == [HELLO]

    async def test_a_hello_does_not_wait_for_a_tunnel_that_may_come_back(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2, {SITE: answer(REPLY)}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            browser = await ask_frozen_session(home, made[0], HELLO)
            assert await browser.hear(len(REPLY)) == REPLY
            assert home.through(made[0]) in home.manager.tunnels

    async def test_what_may_be_sent_once_only_is_cut_after_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("circumvent.tunnels.live.UNANSWERED", 0.2)
        async with nodes(2, {SITE: answer(REPLY)}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            browser = await ask_frozen_session(home, made[0], POST)
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()
            assert home.through(made[0]) in home.manager.tunnels
            assert not made[1].visits_to(SITE)

    async def test_after_the_answer_what_follows_goes_the_same_way_once(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE)
            await browser.say(HELLO)
            assert await browser.hear(len(HELLO)) == HELLO
            for word in (b"a", b"finished", b"x" * 5000):
                await browser.say(word)
                assert await browser.hear(len(word)) == word
            assert made[0].visits_to(SITE)[0].heard == HELLO + b"afinished" + b"x" * 5000

    async def test_a_client_that_says_more_before_the_answer_is_heard(self, tmp_path: Path) -> None:
        more = b"more"
        async with nodes(1) as (node,):

            async def patient(visit: Visit) -> None:
                await visit.hear(len(HELLO) + len(more))
                await visit.say(REPLY)

            node.talks[SITE] = patient
            async with house([candidate(node)], tmp_path) as home:
                await home.up(1)
                browser = await home.visit(SITE)
                await browser.say(HELLO)
                await until(lambda: bool(node.visits_to(SITE)))
                await browser.say(more)
                assert await browser.hear(len(REPLY)) == REPLY
            assert node.visits_to(SITE)[0].heard == HELLO + more

    @pytest.mark.parametrize(
        "flight", [POST, EARLY, HELLO + b"x", HELLO[:-1], b"\x16" * 40], ids=len
    )
    async def test_nothing_else_is_ever_sent_twice(self, flight: bytes, tmp_path: Path) -> None:
        async with nodes(2, {SITE: reset}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            browser = await home.visit(SITE)
            await browser.say(flight)
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()
            await browser.served
            visits = [visit for node in made for visit in node.visits_to(SITE)]
            assert [visit.heard for visit in visits] == [flight]
            await home.free()

    async def test_a_hello_that_nobody_answers_is_reset_in_the_end(self, tmp_path: Path) -> None:
        async with nodes(3, {SITE: close}) as made, house(all_of(made), tmp_path) as home:
            await home.up(3)
            browser = await home.visit(SITE)
            await browser.say(HELLO)
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()
            assert [node.visits_to(SITE)[0].heard for node in made] == [HELLO] * 3
            await home.free()

    async def test_who_answers_probes_but_not_its_users_is_not_asked_first(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2) as (bad, good):
            bad.talks[SITE], good.talks[SITE] = reset, answer(REPLY)
            async with house(all_of([bad, good]), tmp_path) as home:
                await home.up(2)
                prefer(home, bad)
                answers = []
                for _ in range(8):
                    browser = await home.visit(SITE)
                    await browser.say(POST)
                    with contextlib.suppress(ConnectionResetError):
                        answers.append(await browser.hear(len(REPLY)))
                    browser.leave()
                    await browser.served
                    prefer(home, bad)  # what its probe took would change it
                assert answers.count(REPLY) >= 3
                assert len(home.manager.tunnels) == 2

    async def test_streams_that_end_without_a_word_raise_a_doubt_at_the_third(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: close}) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)
            for number in range(3):
                assert tunnel.state is TunnelState.UP, number
                node.talks[PROBE] = node.talks[OTHER_PROBE] = never_answer
                browser = await home.visit(SITE)
                await browser.say(POST)
                browser.writer.write_eof()
                await browser.hear_out()
                await browser.served
            assert tunnel.state is TunnelState.SUSPECTED

    async def test_a_tunnel_that_breaks_before_anything_is_read_is_passed_over(
        self, tmp_path: Path
    ) -> None:
        class Torn(LayerStream):
            def write(self, block: memoryview, start: int, end: int) -> int:
                raise StreamResetError(f"broke at {len(block)} {start} {end}", stage="write")

        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            prefer(home, made[0])
            tunnel = home.through(made[0]).tunnel
            right = tunnel.open

            async def open_torn(destination: Destination) -> ByteStream:
                return Torn(await right(destination))

            tunnel.open = open_torn  # type: ignore[method-assign]
            for words in (HELLO, b""):
                browser = await home.visit(SITE)
                await browser.say(words)
                await asyncio.sleep(0.05)
                await browser.say(b"and more")
                expected = words + b"and more"
                assert await browser.hear(len(expected)) == expected

    async def test_a_plugin_with_a_bug_is_passed_over(self, tmp_path: Path) -> None:
        class Moody(FarTransport):
            async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
                tunnel = await super().connect(entry, dialer, account)
                right = tunnel.open

                async def open_moodily(destination: Destination) -> ByteStream:
                    if destination.host == SITE:
                        raise ValueError(SITE)
                    return await right(destination)

                tunnel.open = open_moodily  # type: ignore[method-assign]
                return tunnel

        async with nodes(2, {SITE: echo}) as made:
            servers = [candidate(made[0], Moody("moody")), candidate(made[1])]
            async with house(servers, tmp_path) as home:
                await home.up(2)
                prefer(home, made[0])
                browser = await home.visit(SITE)
                await browser.say(b"hello")
                assert await browser.hear(5) == b"hello"
                stream = home.store.attempts.newest(9, servers[0].id, failures=True)[0]
                assert (stream.what, stream.stage) == ("stream", "plugin")


class Replying(FarTransport):
    """Its tunnels tell whether the destination can be reached."""

    async def connect(self, entry: ServerEntry, dialer: Dialer, account: Account) -> Tunnel:
        tunnel = await super().connect(entry, dialer, account)
        tunnel.replies = True
        right = tunnel.open

        async def open_or_tell(destination: Destination) -> ByteStream:
            if destination.host == "refused.test":
                raise DestinationError(Reason.REFUSED)
            return await right(destination)

        tunnel.open = open_or_tell  # type: ignore[method-assign]
        return tunnel


class TestReplies:
    async def test_a_tunnel_that_replies_tells_why_before_the_client_is_accepted(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: echo}) as (node,):
            servers = [candidate(node, Replying())]
            async with house(servers, tmp_path) as home:
                (tunnel,) = await home.up(1)
                refused = await home.visit("refused.test")
                with pytest.raises(DestinationError) as caught:
                    await refused.served
                assert caught.value.reason is Reason.REFUSED
                assert not refused.accepted
                assert tunnel.state is TunnelState.UP
                await home.free()
                served = await home.visit(SITE)
                await served.say(b"hello")
                assert await served.hear(5) == b"hello"
                assert served.accepted == [True]

    async def test_a_client_that_leaves_while_it_is_accepted_costs_nothing(
        self, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: echo}) as (node,):
            servers = [candidate(node, Replying())]
            async with house(servers, tmp_path) as home:
                await home.up(1)
                browser = await home.visit(SITE)
                await until(lambda: bool(node.visits_to(SITE)) or bool(browser.accepted))
                browser.served.cancel()
                await home.free()


async def greet(visit: Visit) -> None:
    await visit.say(b"220 welcome\r\n")
    await echo(visit)


async def farewell_then_listen(visit: Visit) -> None:
    await visit.say(b"farewell")
    visit.writer.write_eof()
    while await visit.hear():
        pass


async def digest(visit: Visit) -> None:
    """At the end of the input, its digest."""
    while await visit.hear():
        pass
    await visit.say(hashlib.sha256(visit.heard).digest())


async def send_big(visit: Visit) -> None:
    """Send much while much comes."""
    sending = asyncio.ensure_future(visit.say(BIG))
    await visit.hear(len(BIG))
    await sending
    await visit.say(hashlib.sha256(visit.heard).digest())


class TestBytes:
    async def test_the_server_may_speak_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(carry.CLIENT_SPEAKS_WITHIN, True, (60.0, 60.0))
        async with nodes(1, {SITE: greet}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE, 25)
            assert await browser.hear(13) == b"220 welcome\r\n"
            await browser.say(HELLO)
            assert await browser.hear(len(HELLO)) == HELLO

    async def test_it_may_do_so_where_clients_are_first_if_this_one_stays_silent(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(carry.CLIENT_SPEAKS_WITHIN, True, (0.05, 0.1))
        async with nodes(1, {SITE: greet}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE, 443)
            assert await browser.hear(13) == b"220 welcome\r\n"

    @pytest.mark.parametrize("words", [HELLO, POST])
    async def test_a_slow_clients_words_come_in_one_packet_with_their_header(
        self, words: bytes, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: echo}) as (node,), house(all_of([node]), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE)
            await asyncio.sleep(0.1)
            await browser.say(words)
            assert await browser.hear(len(words)) == words
            assert node.visits_to(SITE)[0].first == Destination(SITE, 443).encode() + words

    async def test_a_client_may_say_that_it_is_done_and_listen_on(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: digest}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE)
            await browser.say(b"all of it")
            browser.writer.write_eof()
            assert await browser.hear_out() == hashlib.sha256(b"all of it").digest()
            await browser.served
            await home.free()

    async def test_a_client_may_be_done_before_it_said_anything(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: digest}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE)
            browser.writer.write_eof()
            assert await browser.hear_out() == hashlib.sha256(b"").digest()

    async def test_a_server_may_say_that_it_is_done_and_listen_on(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: farewell_then_listen}) as (node,):
            servers = [candidate(node)]
            async with house(servers, tmp_path) as home:
                (tunnel,) = await home.up(1)
                browser = await home.visit(SITE, 25)  # where servers speak first
                assert await browser.hear_out() == b"farewell"
                await browser.say(b"last words")
                await asyncio.sleep(0.2)
                assert tunnel.state is TunnelState.UP
                assert not [
                    probe for probe in home.store.attempts.newest(9) if probe.what == "probe"
                ]
                browser.writer.close()
                await browser.served
                assert node.visits_to(SITE)[0].heard == b"last words"

    async def test_much_goes_both_ways_at_once(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: send_big}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            browser = await home.visit(SITE)
            saying = asyncio.ensure_future(browser.say(BIG))
            heard = await browser.hear(len(BIG) + 32)
            await saying
            assert heard == BIG + hashlib.sha256(BIG).digest()
            assert (tunnel.bytes_up, tunnel.bytes_down) == (len(BIG), len(BIG) + 32)
            assert tunnel.proven

    async def test_a_server_that_breaks_in_the_middle_is_a_reset(self, tmp_path: Path) -> None:
        async def break_off(visit: Visit) -> None:
            await visit.hear()
            await visit.say(b"half of")
            await asyncio.sleep(0.05)
            visit.reset()

        async with nodes(1, {SITE: break_off}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browser = await home.visit(SITE)
            await browser.say(POST)
            assert await browser.hear(7) == b"half of"
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()


class Moody(LayerStream):
    """Takes ``writes``, then no more; its end is a cut, which ``was_cut`` tells."""

    def __init__(self, base: ByteStream, writes: int) -> None:
        super().__init__(base)
        self.writes = writes
        self.was_cut = asyncio.Event()

    def write(self, block: memoryview, start: int, end: int) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise StreamResetError("connection lost: it hears no more", stage="write")
        return super().write(block, start, end)

    def read_into(self, buffer: memoryview) -> int | None:
        count = super().read_into(buffer)
        if count == 0:
            self.was_cut.set()
            raise StreamResetError("connection lost: it was cut", stage="read")
        return count


def make_moody(tunnel: LiveTunnel, *, writes: int = 100) -> list[Moody]:
    """From now on its streams are; they are listed as they are opened."""
    right, opened = tunnel.tunnel.open, list[Moody]()

    async def open_moody(destination: Destination) -> ByteStream:
        opened.append(Moody(await right(destination), writes))
        return opened[-1]

    tunnel.tunnel.open = open_moody  # type: ignore[method-assign]
    return opened


async def read_until_reset(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(sock, 65536):
            data += more
        pytest.fail("the end looked clean")
    return data


class TestCuts:
    async def carry(
        self, home: House, tunnel: LiveTunnel
    ) -> tuple[socket.socket, asyncio.Task[None]]:
        """A client that keeps much unread in our kernel, once its tunnel was cut."""
        opened = make_moody(tunnel)
        near, far = await connected_pair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)

        async def accept() -> None:
            pass

        client, destination = TcpStream(near), Destination(SITE, 80)
        carrying = asyncio.ensure_future(home.dispatcher.carry(client, destination, accept))
        await asyncio.get_running_loop().sock_sendall(far, POST)
        await until(lambda: bool(opened))
        await opened[0].was_cut.wait()
        return far, carrying

    async def test_a_client_gets_all_that_came_before_the_cut(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "TAKEN_SECONDS", 20.0)
        much = BIG[:300_000]
        async with nodes(1, {SITE: answer(much)}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            client, carrying = await self.carry(home, tunnel)
            assert await read_until_reset(client) == much
            await carrying
            client.close()

    async def test_who_takes_nothing_is_reset_after_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "TAKEN_SECONDS", 0.03)
        much = BIG[:300_000]
        async with nodes(1, {SITE: answer(much)}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            client, carrying = await self.carry(home, tunnel)
            await carrying
            assert len(await read_until_reset(client)) < len(much)
            client.close()

    async def test_a_far_side_that_hears_no_more_may_still_answer(self, tmp_path: Path) -> None:
        heard_enough = asyncio.Event()

        async def refuse(visit: Visit) -> None:
            await visit.hear()
            await visit.say(b"413 ")
            await heard_enough.wait()
            await visit.say(b"Content Too Large")

        async with nodes(1, {SITE: refuse}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            opened = make_moody(tunnel, writes=1)
            browser = await home.visit(SITE)
            await browser.say(POST)
            assert await browser.hear(4) == b"413 "
            await browser.say(b"two")
            await until(lambda: opened[0].writes < 0)
            heard_enough.set()
            assert await browser.hear(17) == b"Content Too Large"
            with pytest.raises(ConnectionResetError):
                await browser.hear_out()


async def say_nothing(browser: Browser) -> None:
    await browser.say(b"")


async def say_hello(browser: Browser) -> None:
    await browser.say(HELLO)


async def say_post(browser: Browser) -> None:
    await browser.say(POST)


async def say_big(browser: Browser) -> None:
    browser.writer.write(BIG)
    await asyncio.sleep(0.05)


class TestLeaving:
    async def test_what_a_client_said_in_full_arrives_although_it_is_cut(
        self, tmp_path: Path
    ) -> None:
        async def slow(visit: Visit) -> None:
            sock: socket.socket = visit.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            await never_answer(visit)

        said = BIG[: 250 << 10]  # more than the server takes before it reads, less than we send
        async with nodes(1, {SITE: slow}) as (node,), house(all_of([node]), tmp_path) as home:
            (tunnel,) = await home.up(1)
            browser = await home.visit(SITE, 25)  # where the stream leads on before it says a word
            await until(lambda: bool(node.visits_to(SITE)))
            node.freeze()
            before = tunnel.bytes_up
            await browser.say(said)
            browser.writer.write_eof()
            await until(lambda: tunnel.bytes_up - before == len(said))
            await asyncio.sleep(0.02)  # for the end behind it
            browser.served.cancel()
            await asyncio.wait([browser.served])
            node.thawed.set()
            await until(lambda: node.visits_to(SITE)[0].heard == said)

    @pytest.mark.parametrize("talk", [never_answer, echo, greet])
    @pytest.mark.parametrize("say", [say_nothing, say_hello, say_post, say_big])
    @pytest.mark.parametrize("after", [0.0, 0.06])
    async def test_a_client_that_vanishes_leaves_nothing_and_blames_nobody(
        self,
        talk: Talk,
        say: Talk,
        after: float,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(live, "FIRST_PATIENCE", 5.0)  # silence is judged elsewhere
        async with nodes(1, {SITE: talk}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            browser = await home.visit(SITE)
            await say(browser)  # type: ignore[arg-type]
            await asyncio.sleep(after)
            browser.leave()
            await browser.served
            await home.free()
            assert tunnel.state is TunnelState.UP
            assert not home.store.attempts.newest(9, failures=True)

    @pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.05])
    async def test_a_front_door_that_closes_leaves_nothing(
        self, after: float, tmp_path: Path
    ) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(1)
            browsers = [await home.visit(SITE) for _ in range(5)]
            for browser, words in zip(browsers, (HELLO, POST, b"", BIG, b"x"), strict=True):
                browser.writer.write(words)
            await asyncio.sleep(after)
            for browser in browsers:
                browser.served.cancel()
            await home.free()


class TestOpen:
    """Streams for who pumps by himself."""

    async def test_it_gives_back_what_it_was_charged(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            (tunnel,) = await home.up(1)
            stream = await home.dispatcher.open(Destination(SITE, 80))
            assert home.memory.charged > tunnel.charged
            await send(stream, tunnel.account, b"hello")
            assert await receive(stream, tunnel.account) == b"hello"
            assert (tunnel.bytes_up, tunnel.bytes_down, len(tunnel.streams)) == (5, 5, 1)
            await stream.aclose()
            stream.abort()
            await home.free()
            assert not tunnel.streams

    async def test_a_frozen_server_is_noticed_there_as_well(self, tmp_path: Path) -> None:
        async with nodes(1, {SITE: echo}) as (node,), house([candidate(node)], tmp_path) as home:
            (tunnel,) = await home.up(1)
            stream = await home.dispatcher.open(Destination(SITE, 80))
            node.freeze()
            await send(stream, tunnel.account, b"hello")
            await until(lambda: tunnel.state is TunnelState.DEAD)
            stream.abort()

    async def test_it_takes_the_next_tunnel_and_refuses_when_there_is_none(
        self, tmp_path: Path
    ) -> None:
        async with nodes(2, {SITE: echo}) as made, house(all_of(made), tmp_path) as home:
            await home.up(2)
            await kill_all(made[:1])
            stream = await home.dispatcher.open(Destination(SITE, 80))
            await stream.aclose()
            await kill_all(made[1:])
            with pytest.raises(NoTunnelError):
                await home.dispatcher.open(Destination(SITE, 80))


async def kill_all(made: Sequence[Node]) -> None:
    for node in made:
        await node.kill()
