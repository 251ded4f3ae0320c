"""A server that lies, or somebody in between who alters what it says: an error, and no more."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from circumvent.errors import ConfigError, HandshakeError, ProtocolError
from circumvent.wire.tls13.browsers import SAFARI
from circumvent.wire.tls13.captured import CHROME
from circumvent.wire.tls13.client import Client, State
from circumvent.wire.tls13.codes import Content, Group, Message
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.messages import MAX_MESSAGE
from circumvent.wire.tls13.pins import PinnedServer
from circumvent.wire.tls13.proofs import AnyServer, Proof
from circumvent.wire.tls13.reader import u8, u16, vector8, vector16, vector24
from circumvent.wire.tls13.records import plain_record
from circumvent.wire.tls13.verify import TrustedServer, load_store
from tests.unit.tls13_server import Server, extension, message
from tests.unit.tls13_world import (
    NAME,
    authority,
    certificate,
    chain,
    digest_of,
    open_all,
    private_key,
    self_signed,
    write_authority,
)

HELLO, EXTENSIONS = Message.SERVER_HELLO, Message.ENCRYPTED_EXTENSIONS
CERTIFICATE, VERIFY, FINISHED = (
    Message.CERTIFICATE,
    Message.CERTIFICATE_VERIFY,
    Message.FINISHED,
)
KINDS = [HELLO, EXTENSIONS, CERTIFICATE, VERIFY, FINISHED]


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def own_certificate() -> bytes:
    return self_signed(key())


def talk(client: Client, server: Server) -> None:
    to_server = client.start()
    for _ in range(3):
        to_server = client.receive(server.receive(to_server))
        if client.state is State.DONE:
            break


def meet(server: Server, proof: Proof | None = None) -> Client:
    client = Client(Greeting(make_hello(SAFARI, NAME)), proof or AnyServer())
    talk(client, server)
    return client


def liar(kind: Message, lie: Callable[[bytes], list[bytes]]) -> Server:
    def change(said: Message, message: bytes) -> list[bytes]:
        return lie(message) if said == kind else [message]

    return Server(key(), [own_certificate()], change=change)


def refused(server: Server, proof: Proof | None = None) -> str:
    """The words of the refusal; the server is told of it, unless it is who gave up."""
    client = Client(Greeting(make_hello(SAFARI, NAME)), proof or AnyServer())
    with pytest.raises(HandshakeError) as caught:
        talk(client, server)
    assert client.state is State.FAILED
    assert client.connection is None
    assert client.closing
    assert caught.value.stage == "tls"
    return str(caught.value)


def test_the_server_of_these_tests_is_fine_unless_it_lies() -> None:
    assert meet(liar(HELLO, lambda said: [said])).state is State.DONE


# --- messages out of order -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_said_twice(kind: Message) -> None:
    refused(liar(kind, lambda said: [said, said]))


def test_finished_twice_is_found_as_a_record_under_a_wrong_key() -> None:
    client = Client(Greeting(make_hello(SAFARI, NAME)), AnyServer())
    client.receive(liar(FINISHED, lambda said: [said, said]).receive(client.start()))
    assert client.connection is not None
    with pytest.raises(ProtocolError, match="does not authenticate"):
        open_all(client.connection, client.leftover)


@pytest.mark.parametrize("kind", KINDS[1:-1])
def test_left_out(kind: Message) -> None:
    assert "where another one is due" in refused(liar(kind, lambda _: []))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short(kind: Message) -> None:
    def lie(said: bytes) -> list[bytes]:
        return [said[:1] + vector24(said[4:-1])]

    refused(liar(kind, lie))


@pytest.mark.parametrize("kind", KINDS)
def test_too_long(kind: Message) -> None:
    refused(liar(kind, lambda said: [said[:1] + vector24(said[4:] + b"\0")]))


@pytest.mark.parametrize("kind", KINDS)
def test_huge(kind: Message) -> None:
    said = "announced a message" if kind != FINISHED else "announced"
    assert said in refused(liar(kind, lambda m: [m[:1] + (MAX_MESSAGE + 5).to_bytes(3)]))


@pytest.mark.parametrize("kind", KINDS)
def test_another_message(kind: Message) -> None:
    def lie(other: Message, said: bytes) -> list[bytes]:
        return [u8(other) + said[1:]]

    for other in {*Message} - {kind}:
        if (kind, other) != (CERTIFICATE, Message.COMPRESSED_CERTIFICATE):
            refused(liar(kind, partial(lie, other)))


# --- greetings -----------------------------------------------------------------------------------

SESSION_ID = slice(4 + 35, 4 + 67)
SUITE_AT, COMPRESSION_AT = 4 + 67, 4 + 69
EXTENSIONS_AT = 4 + 70


def greeting_with(extensions: bytes) -> Callable[[bytes], list[bytes]]:
    return lambda said: [u8(HELLO) + vector24(said[4:EXTENSIONS_AT] + vector16(extensions))]


def replaced(said: bytes, at: int, by: bytes) -> list[bytes]:
    return [said[:at] + by + said[at + len(by) :]]


VERSION = extension(0x2B, b"\x03\x04")
SHARE = extension(0x33, u16(Group.X25519) + vector16(b"\x09" + bytes(31)))
GREETINGS: dict[str, tuple[Callable[[bytes], list[bytes]], str]] = {
    "another session": (lambda m: replaced(m, SESSION_ID.start, b"xx"), "does not answer ours"),
    "compression": (lambda m: replaced(m, COMPRESSION_AT, b"\1"), "does not answer ours"),
    "an old suite": (lambda m: replaced(m, SUITE_AT, b"\xc0\x2f"), "a cipher that we did not"),
    "a suite of grease": (lambda m: replaced(m, SUITE_AT, b"\x0a\x0a"), "a cipher that we did not"),
    "version 1.2": (greeting_with(SHARE), "speaks no TLS 1.3"),
    "a draft": (greeting_with(extension(0x2B, b"\x7f\x1c") + SHARE), "speaks no TLS 1.3"),
    "no share": (greeting_with(VERSION), "no key share"),
    "a share twice": (greeting_with(VERSION + SHARE + SHARE), "malformed"),
    "a share of zeros": (
        greeting_with(VERSION + extension(0x33, u16(Group.X25519) + vector16(bytes(32)))),
        "share is not valid",
    ),
    "a short share": (
        greeting_with(VERSION + extension(0x33, u16(Group.X25519) + vector16(bytes(31)))),
        "share is not valid",
    ),
    "a short hybrid share": (
        greeting_with(VERSION + extension(0x33, u16(Group.X25519_MLKEM768) + vector16(b"x"))),
        "share is not valid",
    ),
    "a group without a share": (
        greeting_with(VERSION + extension(0x33, u16(Group.P384) + vector16(bytes(97)))),
        "did not offer",
    ),
    "a name": (greeting_with(VERSION + SHARE + extension(0, b"")), "that we did not send"),
    "a ticket": (greeting_with(VERSION + SHARE + extension(0x29, b"\0\0")), "a ticket that was"),
    "a cookie": (greeting_with(VERSION + SHARE + extension(0x2C, b"\0\1x")), "that we did not"),
}


@pytest.mark.parametrize("name", GREETINGS)
def test_greetings(name: str) -> None:
    lie, words = GREETINGS[name]
    assert words in refused(liar(HELLO, lie))


@pytest.mark.parametrize("mark", [b"DOWNGRD\x01", b"DOWNGRD\x00"])
def test_tls13_was_taken_out_of_our_greeting(mark: bytes) -> None:
    def lie(said: bytes) -> list[bytes]:
        body = said[4:30] + mark + said[38:EXTENSIONS_AT] + vector16(b"")
        return [u8(HELLO) + vector24(body)]

    assert "took TLS 1.3 out" in refused(liar(HELLO, lie))


def retrying(group: int, cookie: bytes = b"") -> Server:
    server = Server(key(), [own_certificate()], group=group, cookie=cookie)
    server.retries = True
    return server


def test_asking_again_for_nothing() -> None:
    assert "the same greeting again" in refused(retrying(Group.X25519))


@pytest.mark.parametrize("group", [0x0100, 0x11EB, 0x001E])
def test_asking_for_a_key_that_was_not_offered(group: int) -> None:
    assert "a key that it cannot have" in refused(retrying(group))


def test_asking_a_third_time() -> None:
    server = retrying(Group.P256)

    def again(kind: Message, said: bytes) -> list[bytes]:
        server.retries = kind == HELLO and not server.binding
        return [said]

    server.change = again
    assert "third greeting" in refused(server)


def test_another_suite_after_asking_again() -> None:
    server = retrying(Group.P256)

    def change(kind: Message, said: bytes) -> list[bytes]:
        if kind == HELLO:
            server.suite = 0x1303
        return [said]

    server.change = change
    assert "changed its mind" in refused(server)


# --- what is encrypted ---------------------------------------------------------------------------


def test_an_answer_to_what_was_not_asked() -> None:
    server = Server(key(), [own_certificate()], answers=extension(0x1C, u16(100)))
    assert "that we did not send (0x001c)" in refused(server)


def test_a_protocol_that_was_not_offered() -> None:
    server = Server(key(), [own_certificate()])
    server.answers = extension(0x10, vector16(vector8(b"h3")))
    assert "was not offered" in refused(server)


def test_no_certificate() -> None:
    assert "no certificate" in refused(Server(key(), []))


def test_too_many_certificates() -> None:
    assert "11 certificates" in refused(Server(key(), [own_certificate()] * 11))


def test_a_certificate_that_is_none() -> None:
    assert "cannot be read" in refused(Server(key(), [b"nonsense"]))
    no_point = own_certificate().replace(b"\x03\x42\x00\x04", b"\x03\x42\x00\x05")
    assert "cannot be read" in refused(Server(key(), [no_point]))


def test_signed_with_another_key() -> None:
    server = Server(ec.generate_private_key(ec.SECP256R1()), [own_certificate()])
    assert "does not hold the key" in refused(server)


@pytest.mark.parametrize("scheme", [0x0401, 0x0201, 0x0203, 0x0000])
def test_signed_in_a_way_that_is_not_allowed(scheme: int) -> None:
    def lie(said: bytes) -> list[bytes]:
        return [said[:4] + u16(scheme) + said[6:]]

    assert "was not offered" in refused(liar(VERIFY, lie))


@pytest.mark.parametrize("scheme", [0x0503, 0x0804, 0x0807])
def test_signed_in_a_way_that_does_not_fit(scheme: int) -> None:
    def lie(said: bytes) -> list[bytes]:
        return [said[:4] + u16(scheme) + said[6:]]

    assert "does not fit" in refused(liar(VERIFY, lie))


def test_a_wrong_finish() -> None:
    words = refused(liar(FINISHED, lambda m: [m[:-1] + u8(m[-1] ^ 1)]))
    assert words.startswith("TLS handshake failed: the handshake was altered on the way")


def test_more_in_the_record_of_the_finish() -> None:
    lie = liar(FINISHED, lambda said: [said + message(Message.TICKET, b"")])
    assert "too much under an old key" in refused(lie)


BOMB = zlib.compress(bytes(MAX_MESSAGE * 20))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (u16(1) + (MAX_MESSAGE + 1).to_bytes(3) + vector24(BOMB), "bytes of certificates"),
        (u16(1) + (100).to_bytes(3) + vector24(BOMB), "not as long as it says"),
        (u16(1) + (100).to_bytes(3) + vector24(b"nonsense"), "broken"),
        (u16(2) + (100).to_bytes(3) + vector24(BOMB), "did not offer"),
        (u16(1) + (100).to_bytes(3) + vector24(b""), "malformed"),
    ],
)
def test_compressed_certificates(body: bytes, words: str) -> None:
    lie = liar(CERTIFICATE, lambda _: [message(Message.COMPRESSED_CERTIFICATE, body)])
    assert words in refused(lie)


def test_records_that_have_no_place() -> None:
    client = Client(Greeting(make_hello(CHROME, NAME)), AnyServer())
    client.start()
    with pytest.raises(HandshakeError, match="no TLS record"):
        client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    "record",
    [
        plain_record(Content.DATA, b"early"),
        plain_record(Content.HANDSHAKE, b""),
        plain_record(Content.CHANGE_CIPHER_SPEC, b"\x02"),
        plain_record(Content.CHANGE_CIPHER_SPEC, b"\x01") * 9,
        plain_record(Content.ALERT, b"\x02"),
        b"\x16\x03\x03\xff\xff",
    ],
)
def test_strange_records(record: bytes) -> None:
    client = Client(Greeting(make_hello(CHROME, NAME)), AnyServer())
    client.start()
    with pytest.raises(HandshakeError):
        client.receive(record)
    assert client.closing[0] == Content.ALERT


# --- who it is -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_authority(tmp_path_factory.mktemp("authority")))


def trusted(leaf: trustme.LeafCert, *others: bytes) -> Server:
    return Server(private_key(leaf), [*chain(leaf), *others])


def authority_der() -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority().cert_pem.bytes().decode())


def test_a_known_authority(ca_file: str) -> None:
    assert meet(trusted(certificate()), TrustedServer((NAME,), ca_file)).state is State.DONE


@pytest.mark.parametrize(
    ("name", "asked"), [("*.site.example", "www.site.example"), ("192.0.2.1", "192.0.2.1")]
)
def test_wildcards_and_addresses(name: str, asked: str, ca_file: str) -> None:
    assert meet(trusted(certificate(name)), TrustedServer((asked,), ca_file)).state is State.DONE


@pytest.mark.parametrize("name", ["other.example", "*.site.example", "192.0.2.1"])
def test_another_name(name: str, ca_file: str) -> None:
    words = refused(trusted(certificate(name)), TrustedServer((NAME,), ca_file))
    assert "for another name" in words
    assert "other" not in words.replace("another", "")  # a visited host is in no message


def test_an_unknown_authority(ca_file: str) -> None:
    leaf = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(NAME)
    assert "no known authority" in refused(trusted(leaf), TrustedServer((NAME,), ca_file))


@pytest.mark.parametrize(
    ("days", "words"), [(365 * 80, "has expired"), (-365 * 60, "not valid yet")]
)
def test_the_wrong_time(days: int, words: str, ca_file: str) -> None:
    leaf = authority().issue_cert(NAME, not_after=datetime(2040, 1, 1, tzinfo=UTC))
    proof = TrustedServer((NAME,), ca_file, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days))
    assert words in refused(trusted(leaf), proof)


def test_pins() -> None:
    good = digest_of(own_certificate())
    server = Server(key(), [own_certificate()])
    assert meet(server, PinnedServer((b"x" * 32, good))).state is State.DONE
    server = Server(key(), [own_certificate()])
    assert "not the pinned one" in refused(server, PinnedServer((b"x" * 32,), (good,)))


def test_a_pinned_authority_vouches_for_the_names_that_are_asked() -> None:
    vouching = authority_der()
    proof = PinnedServer((digest_of(vouching),), names=("other.example", NAME))
    assert meet(trusted(certificate(), vouching), proof).state is State.DONE
    assert "for another name" in refused(trusted(certificate("other.test"), vouching), proof)
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(NAME)
    assert "no known authority" in refused(trusted(stranger, vouching), proof)
    assert "not the pinned one" in refused(trusted(certificate()), proof)


def test_a_pinned_certificate_that_is_no_authority_vouches_for_nobody() -> None:
    other = chain(certificate("other.example"))[0]
    proof = PinnedServer((digest_of(other),), names=(NAME,))
    assert "no known authority" in refused(trusted(certificate(), other), proof)


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_store(str(tmp_path / "missing"))
    (tmp_path / "empty").touch()
    assert load_store(str(tmp_path / "empty")) is None


def test_authorities_that_were_updated_while_we_run(tmp_path: Path) -> None:
    path = write_authority(tmp_path)
    renewed = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = renewed.issue_cert(NAME)
    refused(trusted(leaf), TrustedServer((NAME,), str(path)))
    renewed.cert_pem.write_to_path(str(path), append=True)
    assert meet(trusted(leaf), TrustedServer((NAME,), str(path))).state is State.DONE


# --- somebody in between -------------------------------------------------------------------------


@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
def test_each_byte_of_the_flight_counts(position: int, value: int) -> None:
    """Altered on the way: never a connection, never anything but a HandshakeError."""
    client = Client(Greeting(make_hello(SAFARI, NAME)), AnyServer())
    flight = bytearray(Server(key(), [own_certificate()]).receive(client.start()))
    at = position % len(flight)
    flight[at] ^= value
    try:
        client.receive(bytes(flight))
    except HandshakeError:
        assert client.connection is None
    else:
        # the version in the head of a record that is not encrypted, which nobody reads
        assert client.state is not State.DONE or 1 <= at % len(flight) < 140


@given(
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 4), st.binary(max_size=4))),
)
@settings(max_examples=25)
def test_a_server_that_says_nonsense(kind: Message, cuts: list[tuple[int, int, bytes]]) -> None:
    """It holds the keys, and what it says is spoiled anywhere: an error or a connection."""

    def lie(said: bytes) -> list[bytes]:
        for at, size, by in cuts:
            place = at % len(said)
            said = said[:place] + by + said[place + size :] or b"\0"
        return [said]

    client = Client(Greeting(make_hello(SAFARI, NAME)), AnyServer())
    try:
        client.receive(liar(kind, lie).receive(client.start()))
    except HandshakeError:
        assert client.state is State.FAILED


@given(noise=st.binary(max_size=300), kind=st.sampled_from([20, 21, 22, 23]))
def test_noise(noise: bytes, kind: int) -> None:
    client = Client(Greeting(make_hello(SAFARI, NAME)), AnyServer())
    client.start()
    try:
        assert client.receive(u8(kind) + b"\x03\x03" + vector16(noise)) == b""
    except HandshakeError:
        assert client.connection is None
