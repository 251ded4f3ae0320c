"""A layer as a stranger writes it: one file, one parser case, one conformance subclass."""

from __future__ import annotations

from pathlib import Path

import pytest

from circumvent.api import LinkError
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.query import LinkQuery
from circumvent.links.stream_settings import StreamSettings, take_stream_settings
from circumvent.links.uri import parse_link
from circumvent.testing.far_end import Codec
from circumvent.testing.layer import LayerContract
from tests.conformance.stranger.xor_layer import WITH_XOR, XorLayer

ROOT = Path(__file__).parents[2]
KEY = 0x5A


class XorCodec(Codec):
    """The other end, on its own."""

    def seal(self, data: bytes) -> bytes:
        return bytes(byte ^ KEY for byte in data)

    def open(self, wire: bytes) -> bytes:
        return bytes(byte ^ KEY for byte in wire)


class TestXorLayer(LayerContract):
    @pytest.fixture
    def layer(self) -> XorLayer:
        return XorLayer(KEY)

    @pytest.fixture
    def codec(self) -> XorCodec:
        return XorCodec()


def read(query: str) -> StreamSettings:
    parts = parse_link(f"vless://user@server.test:443?{query}")
    return take_stream_settings(LinkQuery(parts), parts.host, carriages=WITH_XOR)


def test_links_ask_for_it() -> None:
    settings = read(f"security=tls&type=xor&key={KEY}")
    security, carriage = settings.layers()
    assert isinstance(security, TlsLayer)
    assert carriage == XorLayer(KEY)
    again = "&".join(map("=".join, settings.query("server.test")))
    assert read(f"security=tls&{again}") == settings


def test_a_wrong_key_is_named() -> None:
    with pytest.raises(LinkError, match="key: "):
        read("type=xor&key=256")


def test_nothing_else_knows_of_it() -> None:
    sources = [*ROOT.glob("circumvent/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    sources += ROOT.glob("tests/**/*.py")
    touched = {path.name for path in sources if "XorLayer" in path.read_text()}
    assert touched == {"xor_layer.py", Path(__file__).name}
