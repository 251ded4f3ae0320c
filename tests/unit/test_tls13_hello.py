"""ClientHellos against those of real browsers, captured on loopback on 2026-11-27."""

from __future__ import annotations

from pathlib import Path

import pytest

from circumvent.wire.tls13.browsers import SAFARI, TEMPLATES
from circumvent.wire.tls13.captured import CHROME, FIREFOX
from circumvent.wire.tls13.choice import find_template
from circumvent.wire.tls13.handshake_records import wrap_hello
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.templates import Template
from circumvent.wire.tls13.tickets import Offer, Ticket
from tests.hellos.form import differences, form, is_grease, ja4, parse_hello, shares
from tests.hellos.templates import source
from tests.unit.tls13_world import NAME

VECTORS = Path(__file__).parent / "vectors" / "tls13"
CHROMIUM, FIREFOX_ESR = "chromium-156", "firefox-esr-153"
RESUMED = "chromium-156-websocket-resumed"
KEY_SHARE, GROUPS, PSK = 0x33, 0x0A, 0x29


def captured(name: str) -> bytes:
    return bytes.fromhex((VECTORS / f"{name}.hex").read_text())


def ours(template: Template, alpn: tuple[str, ...] | None = None) -> bytes:
    return wrap_hello(make_hello(template, NAME, alpn).message(), is_first=True)


def with_ticket(template: Template, alpn: tuple[str, ...] | None = None) -> bytes:
    hello = make_hello(template, NAME, alpn)
    ticket = Ticket(0x1302, b"t" * 208, b"s" * 48, 1, 7200, received=0.0)
    offer = Offer(ticket, now=1.0)
    return wrap_hello(offer.bind(hello.message(offer.extension()), None), is_first=True)


def same_form(one: bytes, other: bytes, *, permuted: bool) -> None:
    forms = [form(each, permuted=permuted) for each in (one, other)]
    assert differences(*forms) == []


def test_chrome_is_chromium_byte_by_byte_but_for_chance() -> None:
    same_form(ours(CHROME), captured(CHROMIUM), permuted=True)


def test_chrome_of_a_websocket_offers_http11_alone_and_no_alps() -> None:
    record = with_ticket(CHROME, ("http/1.1",))
    same_form(record, captured(RESUMED), permuted=True)
    assert parse_hello(record).extensions[-1][0] == PSK
    assert len(parse_hello(record).bodies[PSK]) == len(parse_hello(captured(RESUMED)).bodies[PSK])


def test_firefox_is_firefox_byte_by_byte_but_for_chance() -> None:
    same_form(ours(FIREFOX), captured(FIREFOX_ESR), permuted=False)
    assert len(ours(FIREFOX)) == len(captured(FIREFOX_ESR))


def test_firefox_has_one_x25519_key_in_both_shares_and_chrome_has_two() -> None:
    for record, is_one in (
        (ours(FIREFOX), True),
        (captured(FIREFOX_ESR), True),
        (ours(CHROME), False),
        (captured(CHROMIUM), False),
    ):
        body = parse_hello(record).bodies[KEY_SHARE]
        at = body.index(b"\x00\x1d\x00\x20")
        assert (body[at - 32 : at] == body[at + 4 : at + 36]) is is_one


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chrome", "t13d1517h2_8daaf6152771_cb7bf5808d99"),
        ("android", "t13d1517h2_8daaf6152771_cb7bf5808d99"),
        ("edge", "t13d1516h2_8daaf6152771_806a8c22fdea"),
        ("firefox", "t13d1617h2_86a278354501_3cbfd9057e0d"),
        ("safari", "t13d2013h2_a09f3c656075_7f0f34a4126d"),
        ("ios", "t13d2013h2_a09f3c656075_7f0f34a4126d"),
        ("", "t13d1517h2_8daaf6152771_cb7bf5808d99"),
        ("nobody", "t13d1517h2_8daaf6152771_cb7bf5808d99"),
    ],
)
def test_fingerprints(name: str, expected: str) -> None:
    assert ja4(ours(find_template(name))) == expected


def test_fingerprints_of_the_captures() -> None:
    assert ja4(captured(CHROMIUM)) == ja4(ours(CHROME))
    assert ja4(captured(FIREFOX_ESR)) == ja4(ours(FIREFOX))


def test_safari_is_in_the_published_order() -> None:
    hello = parse_hello(ours(SAFARI))
    codes = [code for code, _ in hello.extensions if not is_grease(code)]
    assert codes == [0, 23, 65281, 10, 11, 16, 5, 13, 18, 51, 45, 43, 27]
    assert is_grease(hello.extensions[0][0])
    assert is_grease(hello.extensions[-1][0])


def test_chrome_permutes_its_extensions_between_two_greases() -> None:
    orders = set()
    for _ in range(8):
        hello = parse_hello(ours(CHROME))
        codes = [code for code, _ in hello.extensions]
        assert is_grease(codes[0])
        assert is_grease(codes[-1])
        assert codes[0] != codes[-1]
        orders.add(tuple(codes[1:-1]))
    assert len(orders) == 8
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_grease_of_the_group_stands_in_its_share_too() -> None:
    bodies = parse_hello(ours(CHROME)).bodies
    assert bodies[GROUPS][2:4] == bodies[KEY_SHARE][2:4]


def test_lengths_are_those_of_the_real_thing() -> None:
    sizes = {len(ours(CHROME)) for _ in range(12)}
    assert sizes <= {len(captured(CHROMIUM)) - 176 + size for size in (144, 176, 208, 240)}


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", ""])
def test_addresses_are_not_sent_as_names(name: str) -> None:
    record = wrap_hello(make_hello(CHROME, name).message(), is_first=True)
    assert 0 not in parse_hello(record).bodies


@pytest.mark.parametrize("name", [*TEMPLATES, "random", "randomized", "randomizednoalpn"])
def test_each_name_gives_a_hello_with_both_shares_that_reality_wants(name: str) -> None:
    hello = parse_hello(ours(find_template(name)))
    groups = [group for group, _ in shares(hello.bodies[KEY_SHARE]) if group != 0x0A0A]
    assert groups[:2] == [0x11EC, 0x1D]
    assert 0x1301 in hello.ciphers


def test_firefox_leaves_the_extension_for_old_tickets_out_where_it_has_a_new_one() -> None:
    assert 0x23 not in parse_hello(with_ticket(FIREFOX)).bodies
    assert 0x23 in parse_hello(with_ticket(CHROME)).bodies


def test_what_make_hellos_writes_is_what_it_read() -> None:
    written: dict[str, object] = {}
    exec(source({"chrome": CHROME, "firefox": FIREFOX}, {"chrome": "1"}), written)
    assert (written["CHROME"], written["FIREFOX"]) == (CHROME, FIREFOX)
    assert written["READ_FROM"] == {"chrome": "1"}
