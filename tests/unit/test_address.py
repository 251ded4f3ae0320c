"""Names of hosts on the wire: as browsers encode them."""

from __future__ import annotations

import pytest

from circumvent.errors import LinkError, ProtocolError
from circumvent.wire.address import Destination, encode_name
from circumvent.wire.host_port import parse_host
from circumvent.wire.requested import requested_destination


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("straße.de", "xn--strae-oqa.de"),  # strasse.de is somebody else
        ("faß.de", "xn--fa-hia.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com", "xn--mgba3gch31f060k.com"),
        ("ශ්\u200dරී.com", "xn--10cl1a0b660p.com"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("\uff42ücher。example", "xn--bcher-kva.example"),
        ("ex\u00adämple.de", "xn--exmple-cua.de"),
        ("_dmarc.bücher.example", "_dmarc.xn--bcher-kva.example"),
        ("i❤.ws", "xn--i-7iq.ws"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_name_is_encoded_as_browsers_do(name: str, encoded: str) -> None:
    assert encode_name(name) == encoded.encode()
    assert parse_host(name) == encoded
    assert requested_destination(name.encode(), 1) == Destination(encoded, 1)


@pytest.mark.parametrize(
    ("host", "wire", "shown"),
    [
        ("192.0.2.7", "01 c0000207 01bb", "192.0.2.7:443"),
        ("2001:db8::1", "04 20010db8000000000000000000000001 01bb", "[2001:db8::1]:443"),
        ("a.test", "03 06 612e74657374 01bb", "a.test:443"),
        ("1.2.3", "03 05 312e322e33 01bb", "1.2.3:443"),  # no address, so a name
    ],
)
def test_a_destination_is_encoded_as_in_socks5(host: str, wire: str, shown: str) -> None:
    destination = Destination(host, 443)
    assert destination.encode() == bytes.fromhex(wire)
    assert str(destination) == shown


def test_a_name_has_1_to_255_bytes() -> None:
    assert encode_name("a" * 255) == b"a" * 255
    for name in ("", "a" * 256):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            encode_name(name)


def test_a_port_is_1_to_65535() -> None:
    for port in (1, 65535):
        assert requested_destination(b"a.test", port) == Destination("a.test", port)
    for port in (0, 65536):
        with pytest.raises(ProtocolError, match="port"):
            requested_destination(b"a.test", port)


@pytest.mark.parametrize("name", ["_a_.b-.example", "UPPER.example.", "a..b", "1_2"])
def test_ascii_is_not_changed(name: str) -> None:
    assert encode_name(name) == name.encode()


@pytest.mark.parametrize(
    "name", ["a\u200db.de", "a\uff0fb.é", "a\u3000é", "\ufffd.de", "é" * 70, "é\uff1a80"]
)
def test_a_name_that_no_browser_looks_up_is_refused(name: str) -> None:
    with pytest.raises(LinkError, match=r"^host: "):
        parse_host(name)
    with pytest.raises(ProtocolError, match="a host that is none"):
        requested_destination(name.encode(), 1)
