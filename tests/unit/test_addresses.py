"""Which IP addresses are public, which are this machine's, and how they are spelled."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circumvent.net.addresses import is_ours, is_public, plain

# Nothing is sent to these addresses.
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


def test_addresses_of_the_internet_are_public() -> None:
    assert [address for address in PUBLIC if not is_public(address)] == []


def test_private_and_reserved_addresses_are_not_public() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []


@given(st.ip_addresses(v=4))
def test_ipv4_inside_of_ipv6_is_judged_as_ipv4(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    forms = (
        ipaddress.IPv6Address(0xFFFF << 32 | number),
        ipaddress.IPv6Address(0x64FF9B << 96 | number),
        ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1),
    )
    assert {is_public(str(form)) for form in forms} == {is_public(str(inner))}


@settings(max_examples=100)
@given(st.ip_addresses())
def test_what_is_public_is_global_for_python_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    embedded = address.version == 6 and address in ipaddress.ip_network("2002::/16")
    if is_public(str(address)) and not embedded:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "::1%"])
def test_odd_spellings_are_not_public(text: str) -> None:
    assert not is_public(text)


def test_this_machines_own_address_is_found() -> None:
    assert is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::127.0.0.1"]
)
def test_this_machines_address_is_found_in_every_spelling(address: str) -> None:
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
def test_an_address_has_one_spelling(address: str, same: str) -> None:
    assert plain(address) == same
