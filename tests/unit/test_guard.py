"""What others named never leads to this machine or its networks, whatever names answer."""

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from circumvent.errors import DialError
from circumvent.layers.tls.client import TlsClient
from circumvent.net import guard
from circumvent.net.dialer import NetDialer
from circumvent.net.guard import Guard, anything, as_typed, learnt

PRIVATE = ("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "fd00::1", "fe80::1")
EMBEDDED = ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "0.0.0.0", "nonsense")
NAME = "rebound.test"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A service of this machine that nobody may be sent to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the name's owner answers with."""
    answers = ["127.0.0.1"]

    def ask(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (answer, 0)) for answer in answers]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    return answers


def dialer(chosen: Guard) -> NetDialer:
    return NetDialer(TlsClient(), guard=chosen)


@pytest.mark.parametrize("address", [*PRIVATE, *EMBEDDED])
def test_a_list_leads_to_no_private_address(address: str) -> None:
    allows = learnt()
    assert not allows(address, address, 443)
    assert not allows(NAME, address, 443)
    assert not as_typed(NAME, address, 443)
    assert as_typed(address, address, 443)
    assert anything(NAME, address, 443)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_localhost_is_allowed_only_to_the_user_who_typed_it(address: str) -> None:
    assert as_typed("localhost", address, 443)
    assert not as_typed("localhost", "192.168.1.1", 443)
    assert not learnt()("localhost", address, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert learnt()(address, address, 443)
    assert as_typed(NAME, address, 443)


@pytest.mark.parametrize("chosen", [as_typed, learnt()], ids=["typed", "learnt"])
async def test_a_name_that_resolves_to_a_private_address_is_refused_each_time(
    listening: socket.socket, names: list[str], chosen: Guard
) -> None:
    port = listening.getsockname()[1]
    through = dialer(chosen)
    for answer in ("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"):
        names[:] = [answer]
        for use in (partial(through.tcp, port=port), partial(through.udp, port=port)):
            with pytest.raises(DialError, match="--allow-private"):
                await use(NAME)
        with pytest.raises(DialError, match="--allow-private"):
            await through.resolve(NAME)
        through.forget()
    with pytest.raises(BlockingIOError):
        listening.accept()


async def test_of_several_addresses_only_public_ones_are_tried(names: list[str]) -> None:
    names[:] = ["127.0.0.1", "192.168.0.9", "8.8.4.4"]
    assert await dialer(as_typed).resolve(NAME) == ["8.8.4.4"]


async def test_the_address_that_a_user_typed_is_reached(listening: socket.socket) -> None:
    host, port = listening.getsockname()
    typed = dialer(as_typed)
    (await typed.tcp(host, port)).abort()
    (await typed.guarded(learnt(host)).tcp(host, port)).abort()
    with pytest.raises(DialError):
        await typed.guarded(learnt("127.0.0.9")).tcp(host, port)


def test_the_machines_name_servers_may_be_asked_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "search 192.168.1.2\n\nnameserver\nnameserver 192.168.1.1\nnameserver fe80::1%eth0\n"
    )
    monkeypatch.setattr(guard, "SYSTEM_FILE", file)
    allows = learnt()
    assert allows("192.168.1.1", "192.168.1.1", 53)
    assert not allows("192.168.1.1", "192.168.1.1", 80)
    assert not allows("192.168.1.2", "192.168.1.2", 53)
