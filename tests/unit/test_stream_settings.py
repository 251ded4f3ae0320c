"""Settings of v2ray-style links, the stacks of layers that they make, and what those cost."""

from __future__ import annotations

import pytest

from circumvent.api import (
    ByteStream,
    Cost,
    Layer,
    LayerStream,
    LinkError,
    Privacy,
    StreamLayer,
    TlsOptions,
    UnsupportedError,
)
from circumvent.layers.costs import TLS_COST
from circumvent.layers.stack import stack_cost, stacked
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.query import LinkQuery
from circumvent.links.stream_settings import (
    CARRIAGES,
    StreamSettings,
    TakeCarriage,
    take_stream_settings,
)
from circumvent.links.uri import parse_link

HOST = "server.test"


class Named(LayerStream):
    """A stream that knows through which layers it was dialled."""

    def __init__(self, *names: str) -> None:
        self.names = names


class NamedLayer(StreamLayer):
    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def cost(self) -> Cost:
        return Cost(dial=2, stream=1)

    async def start(self, stream: ByteStream) -> ByteStream:
        assert isinstance(stream, Named)
        return Named(*stream.names, self.name)


class NamedCarriage:
    """``type=named&word=…``."""

    def __init__(self, query: LinkQuery) -> None:
        self.name = query.take_word("word")

    def layers(self) -> tuple[Layer, ...]:
        return (NamedLayer(self.name),)

    def query(self) -> tuple[tuple[str, str], ...]:
        return ("type", "named"), ("word", self.name)


WITH_NAMED: dict[str, TakeCarriage] = {**CARRIAGES, "named": NamedCarriage}


def read(query: str) -> StreamSettings:
    parts = parse_link(f"vless://user@{HOST}:443?{query}")
    taken = LinkQuery(parts)
    settings = take_stream_settings(taken, parts.host, carriages=WITH_NAMED)
    taken.finish()
    return settings


async def test_a_stack_is_dialled_from_below() -> None:
    async def dial() -> ByteStream:
        return Named("tcp")

    layers = [NamedLayer("low"), NamedLayer("high")]
    stream = await stacked(dial, layers)()
    assert isinstance(stream, Named)
    assert stream.names == ("tcp", "low", "high")
    assert stack_cost(layers) == Cost(dial=4, stream=2)


def test_without_layers_nothing_is_added() -> None:
    async def dial() -> ByteStream:
        raise NotImplementedError

    assert stacked(dial, ()) is dial
    assert stack_cost(()) == Cost(0, 0)


@pytest.mark.parametrize(
    ("query", "privacy", "layers"),
    [
        ("", Privacy.PLAIN, ()),
        ("security=tls", Privacy.ENCRYPTED, (TlsLayer(TlsOptions(HOST)),)),
        ("security=tls&sni=a.test", Privacy.ENCRYPTED, (TlsLayer(TlsOptions("a.test")),)),
        ("security=tls&insecure=1", Privacy.PLAIN, (TlsLayer(TlsOptions(HOST, verify=False)),)),
    ],
)
def test_the_security_is_the_lowest_layer(
    query: str, privacy: Privacy, layers: tuple[Layer, ...]
) -> None:
    settings = read(query)
    assert (settings.privacy, settings.layers()) == (privacy, layers)
    assert settings.cost == (TLS_COST if layers else Cost(0, 0))


def test_a_carriage_goes_over_the_security_and_adds_its_cost() -> None:
    settings = read("security=tls&type=named&word=x")
    security, carriage = settings.layers()
    assert isinstance(security, TlsLayer)
    assert isinstance(carriage, NamedLayer)
    assert carriage.name == "x"
    assert settings.cost == TLS_COST + Cost(dial=2, stream=1)
    assert settings.query(HOST) == (("type", "named"), ("word", "x"))


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("type=ws", UnsupportedError),
        ("security=reality", UnsupportedError),
        ("flow=xtls-rprx-vision", UnsupportedError),
        ("type=tcp&word=x", UnsupportedError),
        ("sni=a.test", LinkError),
    ],
)
def test_what_is_lacking_or_means_nothing_is_refused(query: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(query)


def test_nothing_secured_is_warned_of() -> None:
    assert read("").warnings[0].startswith("security=none: ")
    assert not read("security=tls").warnings
