"""The plugins of this package hold the contracts that are published for others."""

from __future__ import annotations

import socket
import ssl

import pytest

from circumvent.api import Account, ByteStream, TlsOptions
from circumvent.layers.tls.client import TlsClient
from circumvent.layers.tls.layer import TlsLayer
from circumvent.memory import Memory
from circumvent.net.dialer import NetRoute
from circumvent.net.tcp import TcpStream
from circumvent.testing.byte_stream import AnnouncedEndContract, RecordContract
from circumvent.testing.channel import ChannelContract
from circumvent.testing.far_end import Codec
from circumvent.testing.layer import LayerContract
from circumvent.testing.transport import TransportContract
from circumvent_plugins import file_channel, shadowsocks, trojan, vless, web_channels
from circumvent_plugins.dns_channel import DnsChannel
from circumvent_plugins.shadowsocks.ciphers import CIPHERS
from tests.conformance.codecs import ShadowsocksCodec, TlsCodec
from tests.peers.certificates import SERVER_NAME, Certificate

SECRET = "s3cret"
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


class TestTrojan(TransportContract):
    transport = trojan.Trojan()
    link = f"trojan://{SECRET}@server.test:443?sni=front.test"
    secret = SECRET


class TestVless(TransportContract):
    transport = vless.Vless()
    link = f"vless://{UUID}@server.test:443?security=tls"
    secret = UUID


class TestPlainVless(TransportContract):
    transport = vless.Vless()
    link = f"vless://{UUID}@server.test:80"
    secret = UUID


class TestPlainTrojanOverHttpUpgrade(TransportContract):
    transport = trojan.Trojan()
    link = f"trojan://{SECRET}@server.test?security=none&type=httpupgrade"
    secret = SECRET


class TestVlessOverWebSocket(TransportContract):
    transport = vless.Vless()
    link = f"vless://{UUID}@server.test:443?security=tls&type=ws&path=/p?ed=2048&host=site.test"
    secret = UUID


class TestVlessBehindAnHttpHeader(TransportContract):
    transport = vless.Vless()
    link = f"vless://{UUID}@server.test:80?headerType=http"
    secret = UUID


class TestShadowsocks(TransportContract):
    transport = shadowsocks.Shadowsocks()
    link = f"ss://aes-128-gcm:{SECRET}@server.test:8388"
    secret = SECRET


class TestFileChannel(ChannelContract):
    channel = file_channel.FileChannel()
    source = "file:/no/such/file"
    wrong_source = "file:"


class TestHttpsChannel(ChannelContract):
    channel = web_channels.HttpsChannel()
    source = "https://site.test/bundle"
    wrong_source = "https://"


class TestDnsChannel(ChannelContract):
    channel = DnsChannel()
    source = "dns:zone.test?resolver=udp://192.0.2.1"
    wrong_source = "dns:"


class TestAeadLayer(LayerContract, RecordContract):
    METHOD = "aes-128-gcm"
    PREFIX = b""

    @pytest.fixture
    def layer(self) -> shadowsocks.AeadLayer:
        cipher = CIPHERS[self.METHOD]
        return shadowsocks.AeadLayer(cipher, bytes(cipher.key_size), account(), self.PREFIX)

    @pytest.fixture
    def codec(self) -> Codec:
        return ShadowsocksCodec(self.METHOD, bytes(CIPHERS[self.METHOD].key_size))


class TestAeadLayerWithAPrefix(TestAeadLayer):
    PREFIX = b"GET / "


class TestTlsLayer(LayerContract, AnnouncedEndContract):
    @pytest.fixture(autouse=True)
    def route(self, certificate: Certificate) -> None:
        self.engine = TlsClient(str(certificate.authority))

    def below(self, sock: socket.socket) -> ByteStream:
        stream = TcpStream(sock)
        stream.route = NetRoute(self.engine)
        return stream

    @pytest.fixture
    def layer(self) -> TlsLayer:
        return TlsLayer(TlsOptions(SERVER_NAME))

    @pytest.fixture
    def codec(self, certificate: Certificate) -> Codec:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        return TlsCodec(context)


def account() -> Account:
    return Memory(1 << 20).account("test")
