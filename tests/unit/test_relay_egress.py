"""Users' streams are opened to addresses that the policy has judged, and to no others."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from circumvent.errors import DestinationError, Reason
from circumvent.net.sockets import SocketBuffers
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.egress.policy import EgressPolicy
from circumvent.relay.egress.resolver import NameResolver
from circumvent.wire.address import Destination


class Names(NameResolver):
    """Gives the next of its answers each time that it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        super().__init__(())
        self.answers = list(answers)

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        assert name.endswith(".test")
        assert user == "anna"
        return self.answers.pop(0)


class Silent(NameResolver):
    """Never answers."""

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError((name, user))


class Only(EgressPolicy):
    """Allows one address, and remembers what it was asked about."""

    def __init__(self, address: str) -> None:
        super().__init__((range(25, 26),), allow_private=False)
        self.address = address
        self.asked: list[str] = []

    def allows(self, address: str) -> bool:
        self.asked.append(address)
        return address == self.address


@asynccontextmanager
async def listening(*addresses: str) -> AsyncIterator[int]:
    """A port on which both addresses accept connections."""

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(accept, addresses[0], 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await asyncio.start_server(accept, addresses[1], port):
            yield port


def egress_dialer(policy: EgressPolicy, resolver: NameResolver) -> EgressDialer:
    return EgressDialer(policy, resolver, SocketBuffers())


async def refusal(dialer: EgressDialer, host: str, port: int) -> Reason:
    with pytest.raises(DestinationError) as caught:
        await dialer.open(Destination(host, port), "anna")
    assert host not in str(caught.value)
    return caught.value.reason


async def test_the_address_that_was_judged_is_connected_to() -> None:
    async with listening("127.0.0.1", "127.0.0.2") as port:
        policy, names = Only("127.0.0.2"), Names(("127.0.0.2",), ("127.0.0.1",))
        stream = await egress_dialer(policy, names).open(
            Destination("rebinding.test", port), "anna"
        )
        assert stream.peer == "127.0.0.2"
        assert policy.asked == ["127.0.0.2"]
        assert len(names.answers) == 1
        stream.abort()


async def test_only_allowed_addresses_of_a_name_are_tried() -> None:
    async with listening("127.0.0.1", "127.0.0.2") as port:
        names = Names(("127.0.0.1", "127.0.0.2", "::1"))
        dialer = egress_dialer(Only("127.0.0.2"), names)
        stream = await dialer.open(Destination("mixed.test", port), "anna")
        assert stream.peer == "127.0.0.2"
        stream.abort()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1"]
)
async def test_private_addresses_are_forbidden(host: str) -> None:
    dialer = egress_dialer(EgressPolicy((), allow_private=False), Names(("127.0.0.1",)))
    assert await refusal(dialer, host, 80) is Reason.FORBIDDEN


async def test_a_name_for_a_private_address_is_forbidden() -> None:
    dialer = egress_dialer(EgressPolicy((), allow_private=False), Names(("10.0.0.1", "::1")))
    assert await refusal(dialer, "inside.test", 80) is Reason.FORBIDDEN


async def test_ports_are_refused_by_rule() -> None:
    assert (
        await refusal(egress_dialer(Only("127.0.0.1"), Names()), "127.0.0.1", 25)
        is Reason.FORBIDDEN
    )


async def test_a_closed_port_is_refused() -> None:
    async with listening("127.0.0.1", "127.0.0.2") as port:
        pass
    assert (
        await refusal(egress_dialer(Only("127.0.0.1"), Names()), "127.0.0.1", port)
        is Reason.REFUSED
    )


async def test_only_the_first_eight_addresses_of_a_name_are_judged() -> None:
    policy = Only("192.0.2.9")
    dialer = egress_dialer(policy, Names([f"192.0.2.{number}" for number in range(1, 10)]))
    assert await refusal(dialer, "many.test", 80) is Reason.FORBIDDEN
    assert policy.asked == [f"192.0.2.{number}" for number in range(1, 9)]


async def test_a_name_that_takes_too_long_times_out() -> None:
    dialer = EgressDialer(Only(""), Silent(()), SocketBuffers(), connect_seconds=0.01)
    assert await refusal(dialer, "silent.test", 80) is Reason.TIMED_OUT


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNREFUSED, Reason.REFUSED),
        (errno.ENETUNREACH, Reason.NETWORK_UNREACHABLE),
        (errno.EHOSTUNREACH, Reason.HOST_UNREACHABLE),
        (errno.ETIMEDOUT, Reason.TIMED_OUT),
        (errno.EACCES, Reason.FAILURE),
        (None, Reason.FAILURE),
    ],
)
def test_the_systems_code_tells_the_reason(code: int | None, reason: Reason) -> None:
    assert Reason.of_errno(code) is reason
