"""Handshakes with OpenSSL, and with a server of the tests where OpenSSL lacks something."""

from __future__ import annotations

import ssl
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from circumvent.errors import HandshakeError
from circumvent.wire.tls13.browsers import SAFARI, TEMPLATES
from circumvent.wire.tls13.captured import CHROME, FIREFOX
from circumvent.wire.tls13.client import Client, State
from circumvent.wire.tls13.codes import Alert, Content, Group, Message
from circumvent.wire.tls13.connection import Connection
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.proofs import AnyServer, Proof
from circumvent.wire.tls13.reader import u8, u16, vector8, vector16, vector24
from circumvent.wire.tls13.records import plain_record
from circumvent.wire.tls13.signatures import check_signature
from circumvent.wire.tls13.templates import Template
from circumvent.wire.tls13.tickets import Offer
from circumvent.wire.tls13.verify import TrustedServer
from tests.hellos.form import parse_hello
from tests.unit.tls13_server import Key, Server, extension
from tests.unit.tls13_world import (
    NAME,
    OpenSsl,
    open_all,
    seal,
    self_signed,
    server_context,
    shake,
    write_authority,
)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> TrustedServer:
    return TrustedServer((NAME,), str(write_authority(tmp_path_factory.mktemp("authority"))))


def client(template: Template = CHROME, proof: Proof | None = None) -> Client:
    return Client(Greeting(make_hello(template, NAME)), proof or AnyServer())


@cache
def key_of(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 1024)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


def server(kind: str = "p256", scheme: int = 0x0403) -> Server:
    key = key_of(kind)
    return Server(key, [self_signed(key)], scheme)


def meet(client: Client, server: Server) -> Connection:
    to_server = client.start()
    for _ in range(4):
        to_server = client.receive(server.receive(to_server))
        if client.connection is not None:
            client.leftover += server.receive(to_server)
            return client.connection
    raise AssertionError("the handshake does not end")


def exchange(connection: Connection, server: OpenSsl) -> None:
    data = bytes(range(256)) * 150  # three records
    server.receive(seal(connection, data))
    assert server.read() == data
    assert open_all(connection, server.write(data)) == data


# --- with OpenSSL --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_browser_s_hello_and_openssl(name: str, proof: TrustedServer) -> None:
    context = server_context()
    peer = OpenSsl(context)
    mine = client(TEMPLATES[name], proof)
    connection = shake(mine, peer)
    assert connection.outcome.alpn == peer.tls.selected_alpn_protocol() == "h2"
    assert connection.outcome.binding == peer.tls.get_channel_binding("tls-unique")
    exchange(connection, peer)


@pytest.mark.parametrize("curve", ["secp384r1", "prime256v1", "secp521r1"])
def test_openssl_asks_for_another_key(curve: str, proof: TrustedServer) -> None:
    context = server_context()
    context.set_ecdh_curve(curve)
    peer = OpenSsl(context)
    connection = shake(client(SAFARI, proof), peer)
    exchange(connection, peer)


def test_a_ticket_saves_the_certificate(proof: TrustedServer) -> None:
    context = server_context()
    mine, peer = client(CHROME, proof), OpenSsl(context)
    connection = shake(mine, peer)
    *_, ticket = connection.take_tickets(now=100.0)
    assert connection.take_tickets(now=100.0) == []
    assert ticket.is_fresh(101.0)
    assert not ticket.is_fresh(101.0 + ticket.lifetime)
    offer = Offer(ticket, now=103.0)
    age = (3000 + ticket.age_add) % (1 << 32)  # RFC 8446 §4.2.11.1
    assert vector16(ticket.identity) + age.to_bytes(4) in offer.extension()
    again = Client(Greeting(make_hello(CHROME, NAME), offer), proof)
    peer = OpenSsl(context)
    connection = shake(again, peer)
    assert connection.outcome.is_resumed
    assert peer.tls.session_reused
    assert connection.outcome.binding == peer.tls.get_channel_binding("tls-unique")
    exchange(connection, peer)


def test_a_ticket_and_another_key_asked_for(proof: TrustedServer) -> None:
    context = server_context()
    context.set_ecdh_curve("secp384r1")
    mine = client(CHROME, proof)
    connection = shake(mine, OpenSsl(context))
    offer = Offer(connection.take_tickets(now=0.0)[-1], now=1.0)
    peer = OpenSsl(context)
    connection = shake(Client(Greeting(make_hello(CHROME, NAME), offer), proof), peer)
    assert peer.tls.session_reused
    exchange(connection, peer)


def test_a_ticket_that_the_server_forgot(proof: TrustedServer) -> None:
    mine = client(CHROME, proof)
    connection = shake(mine, OpenSsl(server_context()))
    offer = Offer(connection.take_tickets(now=0.0)[-1], now=1.0)
    peer = OpenSsl(server_context())
    connection = shake(Client(Greeting(make_hello(CHROME, NAME), offer), proof), peer)
    assert not connection.outcome.is_resumed
    exchange(connection, peer)


def test_a_server_that_asks_for_a_certificate_gets_none(proof: TrustedServer) -> None:
    context = server_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    peer = OpenSsl(context)
    exchange(shake(client(CHROME, proof), peer), peer)


def test_a_server_of_tls12_is_named(proof: TrustedServer) -> None:
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(HandshakeError, match="speaks no TLS"):
        shake(client(CHROME, proof), OpenSsl(context))


def test_old_middleboxes_see_one_change_of_ciphers(proof: TrustedServer) -> None:
    mine, peer = client(CHROME, proof), OpenSsl(server_context())
    flight = mine.receive(peer.receive(mine.start()))
    change = plain_record(Content.CHANGE_CIPHER_SPEC, b"\x01")
    assert flight.startswith(change)
    assert flight.count(change) == 1


def test_goodbye_both_ways(proof: TrustedServer) -> None:
    mine, peer = client(CHROME, proof), OpenSsl(server_context())
    connection = shake(mine, peer)
    peer.receive(connection.goodbye())
    assert peer.tls.read(10) == b""
    last = peer.write(b"last")
    peer.tls.unwrap()
    assert open_all(connection, last + peer.receive(b"")) == b"last"
    assert connection.ended


def test_the_server_s_alert_in_words(proof: TrustedServer) -> None:
    context = server_context()
    context.set_ciphers("ECDHE+AESGCM")
    mine = client(CHROME, proof)
    mine.start()
    with pytest.raises(HandshakeError, match="does not serve this name"):
        mine.receive(b"\x15\x03\x03\x00\x02\x02" + u8(Alert.UNRECOGNIZED_NAME))
    assert mine.state is State.FAILED
    assert not mine.closing


# --- with a server of our own --------------------------------------------------------------------


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
@pytest.mark.parametrize("group", [Group.X25519_MLKEM768, Group.X25519])
def test_suites_and_shares(suite: int, group: int) -> None:
    peer = server()
    peer.suite, peer.group = suite, group
    connection = meet(client(), peer)
    assert (connection.outcome.suite.code, connection.outcome.group) == (suite, group)
    assert connection.outcome.binding == peer.binding
    assert open_all(connection, peer.seal(b"hi", Content.DATA)) == b"hi"
    peer.receive(seal(connection, b"ho"))
    assert peer.heard[-1] == u8(Content.DATA) + b"ho"


@pytest.mark.parametrize("group", [Group.P256, Group.P384, Group.P521])
@pytest.mark.parametrize("cookie", [b"", b"cookie"])
def test_a_second_hello(group: int, cookie: bytes) -> None:
    peer = server()
    peer.group, peer.retries, peer.cookie = group, True, cookie
    mine = client(SAFARI)
    meet(mine, peer)
    hello = parse_hello(b"\x16\x03\x03" + vector16(peer.hello))
    assert hello.bodies.get(0x2C, b"") == (vector16(cookie) if cookie else b"")
    assert int.from_bytes(hello.bodies[0x33][2:4]) == group


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("p256", 0x0403), ("p384", 0x0503), ("rsa", 0x0804), ("rsa", 0x0805), ("ed25519", 0x0807)],
)
def test_signatures(kind: str, scheme: int) -> None:
    meet(client(), server(kind, scheme))


def test_a_signature_of_tomorrow() -> None:
    """No authority gives such certificates yet, but Chrome offers to check them."""
    key, said = mldsa.MLDSA65PrivateKey.generate(), b"d" * 32
    signature = key.sign(b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + said)
    check_signature(key.public_key(), 0x0905, signature, said)
    with pytest.raises(Fault, match="does not hold the key"):
        check_signature(key.public_key(), 0x0905, signature, b"x" * 32)
    with pytest.raises(Fault, match="does not fit"):
        check_signature(key.public_key(), 0x0904, signature, said)


@pytest.mark.parametrize(
    ("template", "way"), [(CHROME, 2), (SAFARI, 1), *((FIREFOX, n) for n in (1, 2, 3))]
)
def test_compressed_certificates(template: Template, way: int) -> None:
    peer = server()
    peer.compression = way
    meet(client(template), peer)


def test_an_empty_certificate_is_the_answer_to_a_request() -> None:
    peer = server()
    peer.asks_certificate = True
    meet(client(), peer)


def test_one_byte_at_a_time() -> None:
    peer, mine = server(), client()
    flight = peer.receive(mine.start())
    last = b"".join(mine.receive(flight[at : at + 1]) for at in range(len(flight)))
    peer.receive(last)
    assert peer.binding


def test_what_follows_the_handshake_is_left_for_the_connection() -> None:
    peer, mine = server(), client()
    flight = peer.receive(mine.start())
    mine.receive(flight + peer.seal(b"early", Content.DATA))
    assert mine.connection is not None
    assert open_all(mine.connection, mine.leftover) == b"early"


def test_answers_of_the_server() -> None:
    peer, mine = server(), client(FIREFOX)
    alpn = extension(0x10, vector16(vector8(b"http/1.1")))
    peer.answers = alpn + extension(0x1C, u16(101))
    connection = meet(mine, peer)
    assert connection.outcome.alpn == "http/1.1"
    peer.receive(seal(connection, bytes(250)))
    assert [len(record) for record in peer.heard[-3:]] == [101, 101, 51]


def test_keys_are_renewed_on_both_sides() -> None:
    peer = server()
    connection = meet(client(), peer)
    update = u8(Message.KEY_UPDATE) + vector24(b"\x01")
    wire = peer.seal(update)
    assert peer.sealer is not None
    assert peer.opener is not None
    peer.sealer.update()
    assert open_all(connection, wire + peer.seal(b"new", Content.DATA)) == b"new"
    peer.receive(connection.take_outgoing())
    assert peer.heard[-1] == u8(Content.HANDSHAKE) + u8(Message.KEY_UPDATE) + vector24(b"\0")
    peer.opener.update()
    peer.receive(seal(connection, b"new, too"))
    assert peer.heard[-1] == u8(Content.DATA) + b"new, too"


def test_an_exporter_is_the_same_for_the_same_words_only() -> None:
    connection = meet(client(), server())
    one = connection.export(b"EXPORTER-Channel-Binding", b"", 32)
    assert one == connection.export(b"EXPORTER-Channel-Binding", b"", 32)
    assert one != connection.export(b"EXPORTER-Channel-Binding", b"x", 32)
