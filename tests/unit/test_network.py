"""Telling networks apart without naming them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from circumvent.net import network
from circumvent.net.network import NOWHERE, current_network

ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def route(
    interface: str, gateway: str, *, metric: int = 100, mask: str = "00000000", to: str = "00000000"
) -> str:
    """Numbers in the kernel's own order of bytes."""
    return f"{interface}\t{to}\t{gateway}\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


HOME = route("eth0", "0102A8C0")
LAN = route("eth0", "00000000", metric=0, mask="00FFFFFF", to="0002A8C0")
WIFI = route("wlan0", "0100000A", metric=600)
DOCKER = route("docker0", "00000000", metric=0, mask="0000FFFF", to="000011AC")
MAC, OTHER_MAC = "02:00:5e:00:53:01", "02:00:5e:00:53:02"
ZERO, HOP = "0" * 32, "fe80000000000000" + "0" * 15 + "1"
ROUTE6 = f"{ZERO} 00 {ZERO} 00 {HOP} 00000400 00000001 00000000 00450003     eth0\n"
SOME6 = f"2001{ZERO[4:]} 10 {ZERO} 00 {HOP[:-1]}9 00000001 00000001 00000000 00450003     eth0\n"


def neighbours(*rows: str) -> str:
    return "IP address  HW type  Flags  HW address  Mask  Device\n" + "".join(rows)


def neighbour(mac: str, *, flags: int = 2, device: str = "eth0") -> str:
    return f"192.168.2.1  0x1  {flags:#x}  {mac}  *  {device}\n"


KNOWN = neighbours(neighbour(MAC))
INCOMPLETE = neighbours(neighbour("00:00:00:00:00:00", flags=0))
ABSENT = neighbours()


@pytest.fixture(autouse=True)
def no_local_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own network is not part of the tests."""
    monkeypatch.setattr(network, "PROBES", ())


def proc(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


class TestNames:
    def test_the_gateway_with_its_mac_names_the_network(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + LAN + HOME + DOCKER, arp=KNOWN)
        assert current_network(place) == f"192.168.2.1 {MAC}".encode()

    def test_the_mac_is_looked_up_at_the_gateways_interface(self, tmp_path: Path) -> None:
        elsewhere = neighbour(OTHER_MAC, device="br0")
        arp = neighbours(elsewhere, neighbour(MAC))
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=arp)
        assert current_network(place) == f"192.168.2.1 {MAC}".encode()

    @pytest.mark.parametrize(
        "routes",
        [
            pytest.param(WIFI + HOME, id="the lowest metric"),
            pytest.param(
                route("wlan0", "0100000A", metric=0) + route("tun0", "0102A8C0", mask="00000080"),
                id="a VPN that takes half of the Internet",
            ),
            pytest.param(
                route("wlan0", "0202A8C0") + HOME, id="of two with one metric always the same"
            ),
            pytest.param(HOME + route("wlan0", "0202A8C0"), id="whatever their order"),
        ],
    )
    def test_the_kernels_route_decides(self, tmp_path: Path, routes: str) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + routes)
        assert current_network(place).startswith(b"192.168.2.1 ")

    def test_a_tunnel_in_front_of_the_gateway_is_another_network(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN)
        before = current_network(place)
        proc(tmp_path, route=ROUTE_HEAD + HOME + route("wg0", "00000000", metric=50))
        assert current_network(place) != before

    def test_a_network_with_ipv6_only_is_known_by_its_next_hop(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD, ipv6_route=SOME6 + ROUTE6 + "\nshort row\n")
        assert current_network(place) == f"{HOP} eth0".encode()

    def test_without_a_route_there_is_no_name(self, tmp_path: Path) -> None:
        assert current_network(proc(tmp_path, route=ROUTE_HEAD + DOCKER)) == NOWHERE

    def test_without_the_tables_the_local_address_is_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(network, "PROBES", ((socket.AF_INET, "127.0.0.1"),))
        assert current_network(tmp_path) == b"127.0.0.0/24"


class TestStability:
    @pytest.mark.parametrize("forgotten", [INCOMPLETE, ABSENT], ids=["incomplete", "absent"])
    def test_a_mac_that_the_kernel_forgets_is_remembered(
        self, tmp_path: Path, forgotten: str
    ) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN)
        name = current_network(place)
        for arp in (forgotten, KNOWN, forgotten):
            proc(tmp_path, arp=arp)
            assert current_network(place) == name

    @pytest.mark.parametrize("at_first", [INCOMPLETE, ABSENT], ids=["incomplete", "absent"])
    def test_a_name_grows_when_the_mac_becomes_known(self, tmp_path: Path, at_first: str) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=at_first)
        name = current_network(place)
        proc(tmp_path, arp=KNOWN)
        assert current_network(place).startswith(name)
        assert current_network(place) != name

    def test_two_networks_with_the_same_gateway_address_differ(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN)
        name = current_network(place)
        proc(tmp_path, arp=neighbours(neighbour(OTHER_MAC)))
        assert not current_network(place).startswith(name)

    def test_the_mac_of_another_interface_is_not_used(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN)
        current_network(place)
        proc(tmp_path, route=ROUTE_HEAD + HOME.replace("eth0", "wlan0"))
        assert current_network(place) == b"192.168.2.1 "

    def test_while_a_lease_is_renewed_ipv6_keeps_the_name(self, tmp_path: Path) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN, ipv6_route=ROUTE6)
        name = current_network(place)
        proc(tmp_path, route=ROUTE_HEAD)
        assert current_network(place) == name
        proc(tmp_path, ipv6_route=ROUTE6.replace(HOP, HOP[:-1] + "2"))
        assert current_network(place) != name

    def test_a_route_that_is_gone_for_a_moment_comes_back_with_its_name(
        self, tmp_path: Path
    ) -> None:
        place = proc(tmp_path, route=ROUTE_HEAD + HOME, arp=KNOWN)
        name = current_network(place)
        proc(tmp_path, route=ROUTE_HEAD, arp=ABSENT)
        assert current_network(place) == NOWHERE
        proc(tmp_path, route=ROUTE_HEAD + HOME)
        assert current_network(place) == name
