"""The egress policy: users reach the public Internet, and none of the relay's networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from circumvent.net.addresses import is_public
from circumvent.relay.egress import policy as egress
from circumvent.relay.egress.policy import EgressPolicy


def test_a_lab_may_reach_everything() -> None:
    assert EgressPolicy((), allow_private=True).allows("127.0.0.1")
    assert not EgressPolicy((), allow_private=False).allows("127.0.0.1")


@pytest.mark.parametrize("allow_neighbours", [True, False])
def test_this_machines_public_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, *, allow_neighbours: bool
) -> None:
    monkeypatch.setattr(egress, "is_public", lambda _: True)
    policy = EgressPolicy((), allow_private=False, allow_neighbours=allow_neighbours)
    assert not policy.allows("127.0.0.1")


@pytest.mark.parametrize(
    ("port", "allowed"),
    [(24, True), (25, False), (26, True), (134, True), (135, False), (139, False), (140, True)],
)
def test_ports_are_refused_by_range(port: int, *, allowed: bool) -> None:
    policy = EgressPolicy((range(25, 26), range(135, 140)), allow_private=False)
    assert policy.allows_port(port) is allowed


IPV4_ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE000108\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00000108\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth1\t00000009\tFE000108\t0003\t0\t0\t0\t000000FF\t0\t0\t0
eth2\t0000000B\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
tun1\t0000000C\t00000000\t0001\t0\t0\t0\t000000FE\t0\t0\t0
eth3\t0000010E\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0
eth4\t0000020E
"""
_ANY = "0" * 32
IPV6_ROUTES = f"""\
2a000000000000010000000000000000 40 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00000001     eth0
2a000000000000020000000000000000 40 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00200201     eth0
{_ANY} 00 {_ANY} 00 2a000000000000010000000000000001 00000400 00000003 00000000 00000003     eth0
20000000000000000000000000000000 03 {_ANY} 00 {_ANY} 00000400 00000001 00000000 00000001     sit0
2a010000000000000000000000000000 20 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00000001     eth2
2a020000000000000000000000000000 1f {_ANY} 00 {_ANY} 00000100 00000001 00000000 00000001     tun1
2a040000000000000000000000000000 40 {_ANY} 00 {_ANY} 00000100 00000001 00000000 00000000     eth3
2a050000000000000000000000000000 40
"""


class TestNeighbours:
    """Machines on the same network as the relay, at public addresses."""

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
            ("9.9.9.9", True),  # behind a router
            ("11.9.9.9", False),
            ("12.9.9.9", True),  # a network larger than a /8
            ("14.1.0.1", True),  # the interface is down
            ("14.2.0.1", True),
            ("2a00:0:0:1::7", False),
            ("2a00:0:0:2::7", True),  # a route that rejects
            ("2a01::7", False),
            ("2a02::7", True),  # a network larger than a /32
            ("2a04::7", True),  # the interface is down
            ("2a05::7", True),
            ("2606:4700::1111", True),
            ("64:ff9b::801:7", False),
            ("2002:801:7::1", False),
        ],
    )
    def test_are_refused_unless_the_operator_allows_them(
        self, address: str, *, allowed: bool
    ) -> None:
        assert is_public(address)
        assert EgressPolicy((), allow_private=False).allows(address) is allowed
        generous = EgressPolicy((), allow_private=False, allow_neighbours=True)
        assert generous.allows(address)

    def test_are_unknown_where_the_kernel_does_not_tell_routes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("IPV4_ROUTES", "IPV6_ROUTES"):
            monkeypatch.setattr(egress, name, tmp_path / "nothing")
        assert EgressPolicy((), allow_private=False).allows("8.1.0.7")

    def test_are_looked_up_again_after_ten_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times = iter((0.0, 9.9, 10.0))
        policy = EgressPolicy((), allow_private=False, now=lambda: next(times))
        assert not policy.allows("8.1.0.7")
        for name in ("IPV4_ROUTES", "IPV6_ROUTES"):
            monkeypatch.setattr(egress, name, Path("/nothing"))
        assert [policy.allows("8.1.0.7") for _ in range(2)] == [False, True]
