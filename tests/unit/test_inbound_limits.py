"""The inbound's limits, and how clients come and go."""

import asyncio
import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from circumvent.errors import ConfigError
from circumvent.inbound.options import InboundOptions, InboundTimings
from circumvent.net import listener
from circumvent.net.descriptors import most_clients
from circumvent.net.listener import parse_listen
from tests.unit.inbound_client import GREETING, SITE, destination, echo, running_inbound, socks5
from tests.unit.local_sockets import until


@pytest.mark.parametrize("beginning", [b"\x05", b"\x05\x01\x00\x05", b"\x04\x01", b"GET http"])
async def test_a_client_that_is_slow_in_its_handshake_is_cut(beginning: bytes) -> None:
    async with running_inbound(InboundOptions(port=0, handshake_seconds=0.02)) as inbound:
        client = await inbound.connect()
        client.writer.write(beginning)
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00", b"\x00", b"\x04" + b"x" * 600])
async def test_noise_is_cut(noise: bytes) -> None:
    async with running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(noise)
        with suppress(ConnectionResetError):
            assert await client.receive_all() in {b"", b"\x00\x5b" + bytes(6)}
        assert inbound.outbound.asked == []
        client.close()


async def test_above_the_limit_a_client_waits_until_another_one_leaves() -> None:
    async with running_inbound(InboundOptions(port=0, max_clients=1)) as inbound:
        first, second = await inbound.connect(), await inbound.connect()
        await first.send(GREETING)
        await first.receive(2)
        await second.send(GREETING)
        answer = asyncio.create_task(second.receive(2))
        await asyncio.sleep(0.02)
        assert not answer.done()
        first.close()
        assert await answer == b"\x05\x00"
        second.close()


async def test_idle_clients_are_cut_and_busy_ones_stay() -> None:
    async with (
        destination(echo) as port,
        running_inbound(InboundOptions(port=0, idle_seconds=0.8)) as inbound,
    ):
        idle, busy = await inbound.connect(), await inbound.connect()
        for client in (idle, busy):
            await client.send(GREETING + socks5(SITE, port))
            await client.receive(12)
        cut = asyncio.ensure_future(idle.receive_all())
        while not cut.done():
            await busy.send(b"x")
            assert await busy.receive(1) == b"x"
            await asyncio.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            await cut
        busy.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_more_clients_are_accepted_than_there_are_descriptors_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert 60 < most_clients() < 128  # two each, and some for everything else


async def test_without_descriptors_accepting_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[object] = []
    monkeypatch.setattr(listener.log, "warning", lambda *words: warned.append(words))
    options = InboundOptions(port=0, timings=InboundTimings(accept_again=0.02))
    async with running_inbound(options) as inbound:
        client = await inbound.connect()
        with no_descriptors_left():
            await client.send(GREETING)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.receive(2), 0.1)
        assert await client.receive(2) == b"\x05\x00"
        assert len(warned) == 1
        client.close()


# --- coming and going --------------------------------------------------------------------------


async def test_clients_may_leave_at_any_point() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        words = GREETING + socks5(SITE, port) + b"hello"
        for end in range(len(words)):
            client = await inbound.connect()
            await client.send(words[:end])
            client.reset() if end % 2 else client.close()
        await until(lambda: inbound.server.clients == 0)


async def test_drain_waits_for_connected_clients_and_accepts_no_more() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port))
        await client.receive(12)
        drained = asyncio.create_task(inbound.server.drain())
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await inbound.connect()
        await client.send(b"still here")
        assert await client.receive(10) == b"still here"
        assert not drained.done()
        client.close()
        await drained


async def test_closing_cuts_all_clients() -> None:
    async with destination(echo) as port, running_inbound() as inbound:
        client = await inbound.connect()
        await client.send(GREETING + socks5(SITE, port))
        await client.receive(12)
        await inbound.server.aclose()
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


async def test_a_taken_port_is_explained() -> None:
    async with running_inbound() as inbound:
        with pytest.raises(ConfigError, match="--listen") as caught:
            async with running_inbound(InboundOptions(port=inbound.port)):
                pass
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1080", ("127.0.0.1", 1080)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:0", ("localhost", 0)),
        (" LocalHost:1080\n", ("localhost", 1080)),
    ],
)
def test_listen_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "1080", "::1:80", "[::1]", "x:", "x:65536", "[x]:80", "x:²"])
def test_wrong_listen_addresses_say_so(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        parse_listen(text)


def test_names_to_listen_on_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        InboundOptions("site.example")
