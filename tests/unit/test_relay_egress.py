"""No way leads back into the networks of whoever runs the relay."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circumvent.errors import DestinationError, Reason
from circumvent.net.addresses import is_ours, is_public, plain
from circumvent.net.sockets import SocketBuffers
from circumvent.relay.egress import policy as egress
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.egress.policy import EgressPolicy
from circumvent.relay.egress.resolver import NameResolver
from circumvent.wire.address import Destination

# 8.8.8.8 and the like are nobody's secret, and nothing is sent there.
PUBLIC = ("1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1")
PRIVATE = (
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001::1",
    "2001:db8::1",
    "64:ff9b:1::1",
    "::127.0.0.1",
    "5f00::1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_ours_or_nobodys_is_not(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_ipv4_inside_of_ipv6_is_judged_as_what_it_is(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    forms = (
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address(0x64FF9B << 96 | number),
        ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1),
    )
    assert {is_public(str(form)) for form in forms} == {is_public(str(inner))}


@settings(max_examples=100)
@given(st.ip_addresses())
def test_python_agrees_that_what_passes_is_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    embedded = address.version == 6 and address in ipaddress.ip_network("2002::/16")
    if is_public(str(address)) and not embedded:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "::1%"])
def test_odd_spellings_are_no_addresses(text: str) -> None:
    assert not is_public(text)


def test_this_machines_own_address_is_found() -> None:
    assert is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1")


def test_a_lab_may_reach_everything() -> None:
    assert EgressPolicy((), allow_private=True).allows("127.0.0.1")
    assert not EgressPolicy((), allow_private=False).allows("127.0.0.1")


def test_this_machines_public_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "is_public", lambda _: True)
    assert not EgressPolicy((), allow_private=False).allows("127.0.0.1")


IPV4_ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE000108\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00000108\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth1\t00000009\tFE000108\t0003\t0\t0\t0\t000000FF\t0\t0\t0
"""
_ANY = "0" * 32
IPV6_ROUTES = f"""\
2a000000000000010000000000000000 40 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00000001     eth0
2a000000000000020000000000000000 40 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00200201     eth0
{_ANY} 00 {_ANY} 00 2a000000000000010000000000000001 00000400 00000003 00000000 00000003     eth0
20000000000000000000000000000000 03 {_ANY} 00 {_ANY} 00000400 00000001 00000000 00000001     sit0
"""


class TestNeighbours:
    """Whoever is on the same network as the relay, at a public address."""

    @pytest.fixture(autouse=True)
    def routes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, text in (("IPV4_ROUTES", IPV4_ROUTES), ("IPV6_ROUTES", IPV6_ROUTES)):
            file = tmp_path / name
            file.write_text(text)
            monkeypatch.setattr(egress, name, file)

    @pytest.mark.parametrize(
        ("address", "allowed"),
        [
            ("8.1.0.7", False),
            ("8.1.15.255", False),
            ("8.1.16.1", True),
            ("9.9.9.9", True),
            ("2a00:0:0:1::7", False),
            ("2a00:0:0:2::7", True),
            ("2606:4700::1111", True),
            ("64:ff9b::801:7", False),
            ("2002:801:7::1", False),
        ],
    )
    def test_are_refused_unless_the_operator_says_otherwise(
        self, address: str, *, allowed: bool
    ) -> None:
        assert is_public(address)
        assert EgressPolicy((), allow_private=False).allows(address) is allowed
        generous = EgressPolicy((), allow_private=False, allow_neighbours=True)
        assert generous.allows(address)

    def test_nobody_has_any_where_the_kernel_does_not_tell(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("IPV4_ROUTES", "IPV6_ROUTES"):
            monkeypatch.setattr(egress, name, tmp_path / "nothing")
        assert EgressPolicy((), allow_private=False).allows("8.1.0.7")


# --- the outlet -----------------------------------------------------------------------------------


class Names(NameResolver):
    """Answers the next of its answers each time that it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        super().__init__(())
        self.answers = list(answers)

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        assert name.endswith(".test")
        assert user == "anna"
        return self.answers.pop(0)


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

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(meet, addresses[0], 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await asyncio.start_server(meet, addresses[1], port):
            yield port


def egress_dialer(policy: EgressPolicy, resolver: NameResolver) -> EgressDialer:
    return EgressDialer(policy, resolver, SocketBuffers())


async def refusal(dialer: EgressDialer, host: str, port: int) -> Reason:
    with pytest.raises(DestinationError) as caught:
        await dialer.open(Destination(host, port), "anna")
    assert host not in str(caught.value)
    return caught.value.reason


async def test_what_was_looked_at_is_what_is_connected_to() -> None:
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


async def test_a_closed_port_refuses() -> None:
    async with listening("127.0.0.1", "127.0.0.2") as port:
        pass
    assert (
        await refusal(egress_dialer(Only("127.0.0.1"), Names()), "127.0.0.1", port)
        is Reason.REFUSED
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::127.0.0.1"]
)
def test_our_own_address_is_known_in_every_spelling(address: str) -> None:
    assert is_ours(address)


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("::ffff:8.8.4.4", "8.8.4.4"),
        ("::FFFF:0808:0404", "8.8.4.4"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_what_is_judged_is_what_is_connected_to(address: str, same: str) -> None:
    assert plain(address) == same
