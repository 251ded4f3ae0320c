"""Settings of v2ray-style links, the stacks of layers that they make, and what those cost."""

from __future__ import annotations

import base64
from urllib.parse import quote

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
from circumvent.layers.http_opening import HttpHeaderLayer, HttpUpgradeLayer
from circumvent.layers.stack import stack_cost, stacked
from circumvent.layers.tls.ech_lookup import EchLookupLayer, EchSource
from circumvent.layers.tls.layer import TlsLayer
from circumvent.layers.tls.reality import RealityLayer, RealityOptions
from circumvent.layers.websocket import WebSocketLayer
from circumvent.links.carriages import CARRIAGES, TakeCarriage, split_early_size
from circumvent.links.query import LinkQuery
from circumvent.links.stream_settings import VISION, StreamSettings, take_stream_settings
from circumvent.links.uri import parse_link

HOST = "server.test"
KEY = bytes(32)
ECH = (  # an ECHConfigList of sing-box
    "AEb+DQBCAAAgACDZDLgExkoEOosniyh9FjyqcG0moqIO6/mnk1gQ0vvVbgAMAAEAAQABAAIAAQADAAtwdWJsaWMu"
    "dGVzdAAA"
)
REALITY = f"security=reality&pbk={'A' * 43}"


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
    """``type=named&word=…``, which offers a protocol of its own."""

    alpn = ("named",)

    def __init__(self, query: LinkQuery, _: str) -> None:
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
    taken.finish_leniently()
    return settings


def read_again(settings: StreamSettings) -> StreamSettings:
    return read("&".join(f"{key}={quote(value)}" for key, value in settings.query(HOST)))


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
        (
            "security=tls&insecure=1",
            Privacy.UNVERIFIED,
            (TlsLayer(TlsOptions(HOST, verify=False)),),
        ),
        ("sni=a.test&alpn=h2&fp=chrome&ech=x&insecure=1", Privacy.PLAIN, ()),
        (REALITY, Privacy.ENCRYPTED, (RealityLayer(RealityOptions(HOST, KEY)),)),
        (
            f"{REALITY}&sni=a.test&sid=0aB1&fp=firefox&spx=%2F&alpn=h2",
            Privacy.ENCRYPTED,
            (RealityLayer(RealityOptions("a.test", KEY, b"\n\xb1", fingerprint="firefox")),),
        ),
    ],
)
def test_the_security_is_the_lowest_layer(
    query: str, privacy: Privacy, layers: tuple[Layer, ...]
) -> None:
    settings = read(query)
    assert (settings.privacy, settings.layers()) == (privacy, layers)
    assert settings.cost == (TLS_COST if layers else Cost(0, 0))
    assert read_again(settings) == settings


def test_a_carriage_goes_over_the_security_and_adds_its_cost() -> None:
    settings = read("security=tls&type=named&word=x")
    security, carriage = settings.layers()
    assert isinstance(security, TlsLayer)
    assert isinstance(carriage, NamedLayer)
    assert carriage.name == "x"
    assert settings.cost == TLS_COST + Cost(dial=2, stream=1)
    assert security.options.alpn == ("named",)
    assert settings.query(HOST) == (("security", "tls"), ("type", "named"), ("word", "x"))


TLS, PLAIN = Privacy.ENCRYPTED, Privacy.PLAIN


@pytest.mark.parametrize(
    ("query", "privacy"),
    [
        ("security=TLS", TLS),
        ("security=tls://ad", TLS),
        ("security=none&security=tls", TLS),  # what asks for it counts
        ("tls=1", TLS),
        ("tls=tls", TLS),
        ("security=none&tls=1", TLS),
        ("security=", PLAIN),
        ("security=false", PLAIN),
        ("security=0", PLAIN),
        ("security=none%D8%A7", PLAIN),
        ("%3Bsecurity=tls", TLS),
        ("amp%3Bsecurity=tls", TLS),
        ("security%3Dtls", TLS),
    ],
)
def test_security_is_read_as_others_read_it_and_never_dropped(query: str, privacy: Privacy) -> None:
    assert read(query).privacy is privacy


@pytest.mark.parametrize(
    "hidden",
    [
        "vless://u@a.test:1?type=tcp%26security=tls",
        "vless://u@a.test:1?type=tcp%26security%253Dreality",
        "vless://u@a.test:1?path=/;security=tls;type=tcp",
        "vless://u@a.test:1/security=tls&type=tcp",
        "vless://u@a.test:1?type=tcp#name&security=tls",
        "vless://u@a.test:1?security=none&type=tcp?security=reality",
    ],
)
def test_a_spoiled_link_that_asked_for_tls_is_not_used_without(hidden: str) -> None:
    parts = parse_link(hidden)
    with pytest.raises(LinkError, match=r"^security: "):
        take_stream_settings(LinkQuery(parts), parts.host)


@pytest.mark.parametrize(
    ("query", "layer"),
    [
        ("", None),
        ("type=tcp", None),
        ("type=raw", None),
        ("type=TCP%23ad", None),
        ("type=tcp%D8%A7", None),
        ("type=zxrsi", None),
        ("type=tcp&headerType=none%22", None),
        ("type=tcp&path=/p&host=h&mode=gun&serviceName=s&headerType=b", None),
        ("type=ws", WebSocketLayer(HOST, "/")),
        ("type=websocket&host=A.test.&path=p/@x%20y", WebSocketLayer("A.test.", "/p/@x%20y")),
        ("type=ws&host=a.test,b.test&headerType=http", WebSocketLayer("a.test", "/")),
        ("ws=1&wspath=/p", WebSocketLayer(HOST, "/p")),
        ("type=tcp&ws=1", None),
        ("type=ws&security=tls&sni=s.test", WebSocketLayer("s.test", "/")),
    ],
)
def test_carriages_are_read_as_others_read_them(query: str, layer: WebSocketLayer | None) -> None:
    settings = read(query)
    found = [each for each in settings.carriage.layers() if isinstance(each, WebSocketLayer)]
    assert [(each.host, each.path) for each in found] == (
        [(layer.host, layer.path)] if layer else []
    )
    assert read_again(settings) == settings


@pytest.mark.parametrize(
    ("query", "layer"),
    [
        ("type=httpupgrade%F0%9F%9A%80", HttpUpgradeLayer(HOST, "/")),
        (
            "type=httpupgrade&path=/p?ed=9&host=b.test",
            HttpUpgradeLayer("b.test", "/p", waits=False),
        ),
        ("type=tcp&headerType=http", HttpHeaderLayer(HOST, "/")),
        (
            "type=zxrsi&headerType=HTTP&path=a,/b&host=b.test,c.test",
            HttpHeaderLayer("b.test", "/a"),
        ),
    ],
)
def test_one_request_may_open_a_stream(query: str, layer: Layer) -> None:
    settings = read(query)
    assert settings.carriage.layers() == (layer,)
    assert (
        read("&".join(f"{key}={quote(value)}" for key, value in settings.query(HOST))) == settings
    )


def test_over_a_websocket_tls_offers_what_websockets_speak() -> None:
    security, _ = read("security=tls&type=ws&alpn=h2,http/1.1").layers()
    assert isinstance(security, TlsLayer)
    assert security.options.alpn == ("http/1.1",)


@pytest.mark.parametrize(
    ("path", "left", "size"),
    [
        ("/p?ed=2048", "/p", 2048),
        ("/p?a=b&ed=80", "/p?a=b", 80),
        ("/p?ed=80&a=b", "/p?a=b", 80),
        ("/?ed=2560/x", "/", 0),
        ("/p?ed=99999999999", "/p", 4096),
        ("/p?red=1", "/p?red=1", 0),
        ("/ed=1", "/ed=1", 0),
    ],
)
def test_early_data_is_taken_out_of_the_path(path: str, left: str, size: int) -> None:
    assert split_early_size(path) == (left, size)


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("type=grpc", UnsupportedError, "type=grpc"),
        ("type=xhttp&mode=auto", UnsupportedError, "type=xhttp"),
        ("type=splithttp%23ad", UnsupportedError, "type=splithttp"),
        ("type=h2", UnsupportedError, "type=h2"),
        ("type=kcp&seed=s3cret", UnsupportedError, "type=kcp"),
        ("security=xtls", UnsupportedError, "removed"),
        ("security=s3cret%2F", UnsupportedError, "security is not supported"),
        ("security=reality", LinkError, "pbk: "),
        ("security=reality&pbk=s3cret", LinkError, "pbk: "),
        (f"{REALITY}&sid=s3cret", LinkError, "sid: "),
        (f"{REALITY}&sid=123", LinkError, "sid: "),
        (f"{REALITY}&sid=112233445566778899", LinkError, "sid: "),
        (f"{REALITY}&pqv=AAAA", LinkError, "pqv: "),
        (f"{REALITY}&sni=a%20b", LinkError, "sni: "),
        ("security=tls&flow=xtls-rprx-direct", UnsupportedError, "removed"),
        ("flow=xtls-rprx-vision", LinkError, "flow: needs TLS or REALITY"),
        ("security=tls&sni=a.test&ech=s3cret", LinkError, "ech: the key is malformed"),
        ("security=tls&sni=a.test&ech=@", LinkError, "ech: is not valid base64"),
        ("security=tls&ech=a.test%2Budp://192.0.2.1", UnsupportedError, "ech: .* in clear"),
        ("security=tls&ech=h2c://192.0.2.1", UnsupportedError, "ech: .* in clear"),
        ("security=tls&ech=https://s3cret:a/", LinkError, "ech: .* no URL"),
        ("security=tls&ech=s3cret/%2Bhttps://dns.test", LinkError, "ech: .* no URL"),
        (f"security=tls&sni=192.0.2.1&ech={ECH}", LinkError, "ech: .* add sni"),
        (f"security=tls&sni=a.test:443&ech={ECH}", LinkError, "ech: .* add sni"),
        ("security=tls&vcn=a.test,s3cret/", LinkError, "vcn: "),
        ("security=tls&pcs=s3cret", LinkError, "pcs: "),
        ("fm=%7B%7D", UnsupportedError, "fm"),
    ],
)
def test_what_is_lacking_or_broken_is_refused_by_name(
    query: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        read(query)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("security", ["security=tls", REALITY])
@pytest.mark.parametrize(
    "flow", ["xtls-rprx-vision", "xtls-rprx-vision-udp443", "XTLS-rprx-vision"]
)
def test_vision_is_read_over_tls_and_reality(security: str, flow: str) -> None:
    settings = read(f"{security}&flow={flow}")
    assert settings.flow == VISION
    assert read_again(settings) == settings
    assert not settings.notes


@pytest.mark.parametrize(
    ("query", "note"),
    [
        ("security=tls&sni=a.test:443", "sni: "),
        (f"{REALITY}&sni=://a.test", "sni: "),
        ("security=tls&alpn=h2,-%40ad", "alpn: "),
        ("security=tls&fp=a%20b", "fp: "),
        ("security=tls&insecure=1x", "allowInsecure: "),
        ("security=tls&type=ws&flow=xtls-rprx-vision", "flow: "),
        ("type=zxrsi", "type: "),
        ("type=ws&host=%20%C2%A8%20", "host: "),
        ("path=/a&type=ws&path=/b", "path: "),
    ],
)
def test_what_is_not_read_as_it_is_written_is_said(query: str, note: str) -> None:
    settings = read(query)
    assert [warning.startswith(note) for warning in settings.warnings].count(True) == 1
    again = read_again(settings)
    assert again == settings
    assert not again.notes or "sni" in note


def test_names_to_be_verified_and_a_key_for_the_greeting_are_read_and_kept() -> None:
    settings = read(f"security=tls&sni=A.test&ech={ECH}&vcn=B.test,%20192.0.2.1&insecure=1")
    (layer,) = settings.layers()
    assert isinstance(layer, TlsLayer)
    assert layer.options.certificate_names == ("b.test", "192.0.2.1")
    assert layer.options.verify
    assert layer.options.ech == base64.b64decode(ECH)
    assert read_again(settings) == settings
    assert ("ech", ECH) in settings.query(HOST)


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("a.test+https://dns.test/q", EchSource("a.test", "dns.test", 443, "/q")),
        ("https://dns.test", EchSource("b.test", "dns.test", 443, "/dns-query")),
        ("https://[2001:db8::1]:8443/a b", EchSource("b.test", "2001:db8::1", 8443, "/a%20b")),
    ],
)
def test_who_is_asked_for_a_key_is_read_and_kept(written: str, source: EchSource) -> None:
    settings = read(f"security=tls&sni=b.test&ech={quote(written)}")
    assert settings.layers() == (EchLookupLayer(TlsOptions("b.test"), source),)
    assert read_again(settings) == settings
    assert settings.cost == TLS_COST


def test_what_is_no_name_is_not_sent_and_the_address_is_verified() -> None:
    (layer,) = read("security=tls&sni=a.test:443").layers()
    assert layer == TlsLayer(TlsOptions(HOST, send_name=False))


@pytest.mark.parametrize("sni", ["://a.test", "https://a.test:443/b", "a.test:443", "a.test"])
def test_reality_shows_the_site_that_is_meant(sni: str) -> None:
    (layer,) = read(f"{REALITY}&sni={sni}").layers()
    assert layer == RealityLayer(RealityOptions("a.test", KEY))


def test_nothing_secured_is_warned_of() -> None:
    assert read("").warnings[0].startswith("security=none: ")
    assert not read("security=tls").warnings
