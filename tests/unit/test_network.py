"""Telling networks apart without naming them."""

from __future__ import annotations

from pathlib import Path

from circumvent.net.network import current_network

ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
HOME = "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
WIFI = "wlan0\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
ARP_HEAD = "IP address  HW type  Flags  HW address  Mask  Device\n"
ZERO, HOP = "0" * 32, "fe80000000000000" + "0" * 15 + "1"
ROUTE6 = f"{ZERO} 00 {ZERO} 00 {HOP} 00000400 00000001 00000000 00450003     eth0\n"


def proc(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_gateway_with_its_mac_names_the_network(tmp_path: Path) -> None:
    arp = ARP_HEAD + "192.168.2.1  0x1  0x2  02:00:5e:00:53:01  *  eth0\n"
    place = proc(tmp_path, route=ROUTE_HEAD + LAN + HOME, arp=arp)
    assert current_network(place) == b"192.168.2.1 02:00:5e:00:53:01"


def test_the_route_with_the_lowest_metric_counts(tmp_path: Path) -> None:
    place = proc(tmp_path, route=ROUTE_HEAD + WIFI + HOME)
    assert current_network(place).startswith(b"192.168.2.1")


def test_a_network_with_ipv6_only_is_known_by_its_next_hop(tmp_path: Path) -> None:
    place = proc(tmp_path, route=ROUTE_HEAD, ipv6_route=ROUTE6)
    assert current_network(place) == f"{HOP} eth0".encode()


def test_without_the_tables_there_is_still_an_answer(tmp_path: Path) -> None:
    assert current_network(tmp_path)
    assert current_network(tmp_path) == current_network(tmp_path)
