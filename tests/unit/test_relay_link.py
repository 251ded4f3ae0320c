"""Links to relays: read strictly, written so that they are read the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circumvent.errors import LinkError, UnsupportedError
from circumvent.links.relay import RelayLink, format_relay_link, parse_relay_link
from circumvent.tunnels.relay_transport import RelayTransport
from circumvent.wire.address import Destination

SECRET = "AQEBAQEBAQEBAQEBAQEBAQICAgICAgICAgICAgICAgI"
PIN = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM"
GOOD = f"relay://{SECRET}@192.0.2.1:443?pin={PIN}"
MINIMAL = RelayLink("192.0.2.1", 443, b"\1" * 16, b"\2" * 16, (b"\3" * 32,))

labels = st.tuples(
    st.sampled_from("amz"), st.text("az09-", max_size=8), st.sampled_from(["", "z9"])
).map(lambda parts: "".join(parts) if parts[2] else parts[0])
hosts = st.lists(labels, min_size=1, max_size=3).map(".".join) | st.ip_addresses().map(str)
ports = st.integers(1, 65535)
halves = st.binary(min_size=16, max_size=16)
links = st.builds(
    RelayLink,
    host=hosts,
    port=ports,
    knock_key=halves,
    token=halves,
    pins=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4).map(tuple),
    carriers=st.lists(labels, min_size=1, max_size=4, unique=True).map(tuple),
    server_name=st.just("") | hosts,
    web=st.none() | st.builds(Destination, hosts, ports),
    web_host=st.just("") | hosts,
    path=st.text("az09._~/-", max_size=20).map("/".__add__),
    name=st.text("abc äöü", max_size=9).map(str.strip),
)


@given(links)
def test_a_link_survives_being_written_and_read(link: RelayLink) -> None:
    assert parse_relay_link(format_relay_link(link)) == link


def test_the_shortest_link() -> None:
    assert parse_relay_link(f" {GOOD}\n") == MINIMAL
    assert format_relay_link(MINIMAL) == GOOD


def test_a_link_whose_carriers_are_all_unknown_is_of_no_use() -> None:
    with pytest.raises(UnsupportedError, match=r"none of tls.* is supported; supported: none"):
        RelayTransport({}).parse(GOOD)


def test_the_relays_own_key_comes_first() -> None:
    link = parse_relay_link(GOOD.replace(PIN, f"{PIN},{SECRET}"))
    assert link.identity == MINIMAL.identity == link.pins[0] == b"\3" * 32


def test_a_link_with_everything() -> None:
    link = parse_relay_link(
        f"relay://{SECRET}@relay.example:8443?pin={PIN}&carriers=tls,websocket,fronted"
        "&sni=www.example&web=front.example:443&host=hidden.example&path=/live/#Anna"
    )
    assert link.carriers == ("tls", "websocket", "fronted")
    assert link.server_name == "www.example"
    assert link.web == Destination("front.example", 443)
    assert (link.web_host, link.path, link.name) == ("hidden.example", "/live/", "Anna")


@pytest.mark.parametrize(
    ("link", "part"),
    [
        (GOOD.replace("relay:", "ss:"), "scheme: a relay's link"),
        (GOOD.replace("?", "/x?"), "path: a relay's link"),
        (GOOD.replace(SECRET, SECRET[:-4]), "user: is not of 32 bytes"),
        (GOOD.replace(SECRET + "@", ""), "user: is not of 32 bytes"),
        (GOOD.replace(SECRET, SECRET[:-1] + "J"), "user: is not of 32 bytes"),
        (GOOD.replace(PIN, PIN[:-2]), "pin: is not"),
        (f"relay://{SECRET}@192.0.2.1:443", "pin: a relay's link has"),
        (GOOD.replace(PIN, ",".join([PIN] * 5)), "pin: a relay's link has"),
        (GOOD + "&carriers=TLS", "carriers: are at most"),
        (GOOD + "&carriers=tls,tls", "carriers: one is named twice"),
        (GOOD + "&carriers=tls,,x", "carriers: an item is empty"),
        (GOOD + "&sni=a_b..c", "sni: is neither"),
        (GOOD + "&host=a:b", "host: is neither"),
        (GOOD + "&web=front.example", "web: port"),
        (GOOD + "&path=live", "path: starts with"),
        (GOOD + "&path=/a%20b", "path: starts with"),
    ],
)
def test_what_is_wrong_is_named(link: str, part: str) -> None:
    with pytest.raises(LinkError) as caught:
        parse_relay_link(link)
    assert part in str(caught.value)
    assert SECRET[:8] not in str(caught.value)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(UnsupportedError, match="colour in the query"):
        parse_relay_link(GOOD + "&colour=red")


@given(st.text(max_size=80).map(lambda text: "relay://" + text))
def test_nonsense_is_one_clear_error(text: str) -> None:
    with pytest.raises((LinkError, UnsupportedError)):
        parse_relay_link(text)


def test_secrets_are_not_shown() -> None:
    shown = repr(parse_relay_link(GOOD))
    assert "knock_key" not in shown
    assert "token" not in shown
