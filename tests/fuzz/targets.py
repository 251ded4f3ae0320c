"""One function for each parser: any input either gives its one documented error, or a value.

A value must say again what was read, so that a parser that misreads is found too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

from msgspec.structs import replace

from circumvent.discovery.list_reading import ListReading
from circumvent.discovery.origins import parse_origin
from circumvent.discovery.sources import lists_account
from circumvent.errors import BundleError, LinkError, ProtocolError, UnsupportedError
from circumvent.links.invite import format_invite, parse_invite
from circumvent.links.list_reader import number_links
from circumvent.links.relay import format_relay_link, parse_relay_link
from circumvent.links.uri import format_link, parse_link
from circumvent.memory import Memory
from circumvent.session.engine.engine import Engine
from circumvent.session.engine.limits import SessionLimits
from circumvent.tunnels.candidate import parse_candidate
from circumvent.wire import dns_chunks, http_heads, sealing
from circumvent.wire.bundle import (
    OPEN_TYPE,
    Bundle,
    Trust,
    format_bundle,
    make_envelope,
    open_bundle,
    parse_bundle,
    read_payload,
)
from circumvent.wire.dsse import Envelope
from circumvent.wire.hello import format_hello, parse_answer, parse_hello
from circumvent.wire.http_bodies import ANSWER, REQUEST, Body, Chunked
from circumvent.wire.keys import Key, KeyKind, parse_key
from circumvent.wire.opening import format_opening, parse_opening
from circumvent_plugins import file_channel, shadowsocks, trojan, vless, web_channels
from circumvent_plugins.dns_channel import DnsChannel
from circumvent_plugins.dns_channel.messages import read_answer

NOW = 1_800_000_000
CHANNELS = (
    DnsChannel(),
    file_channel.FileChannel(),
    web_channels.HttpsChannel(),
    web_channels.SubscriptionChannel(),
    web_channels.FrontedChannel(),
)
# Bundles of these are in the corpus, signed and sealed, so that the fuzzer begins behind the gates.
SIGNERS = tuple(Key(KeyKind.SIGNER, bytes((number,)) * 32) for number in (1, 2))
BUCKET = Key(KeyKind.BUCKET, b"\x09" * 32)
TRUST = Trust(tuple(signer.public().raw for signer in SIGNERS))
LINKS = ("ss://YWVzLTEyOC1nY206c2VjcmV0@192.0.2.1:8388#one", "trojan://s@a.test:443?sni=b.test#two")
LIST = Bundle(7, NOW - 60, NOW + 86400, LINKS, ("https://m.test/b", "dns:b.test"))
LAST_LIST = replace(LIST, version=9, next_trust=replace(TRUST, threshold=2))
TRANSPORTS = (shadowsocks.Shadowsocks(), trojan.Trojan(), vless.Vless())
BY_SCHEME = {scheme: each for each in TRANSPORTS for scheme in each.schemes}
SUBSCRIPTION = parse_origin("https://provider.test/list")


def bundle(data: bytes) -> None:
    """What a channel brought: nothing opens but what was signed."""
    with suppress(BundleError):
        assert format_bundle(parse_bundle(data)) == data
    for bucket in (None, BUCKET.raw):
        with suppress(BundleError):
            assert open_bundle(data, TRUST, bucket, NOW) in (LIST, LAST_LIST)


def packed(data: bytes) -> None:
    """What an authority signed, as it is: zlib, then JSON."""
    with suppress(BundleError):
        make_envelope(read_payload(Envelope(OPEN_TYPE, data), None))


def payload(data: bytes) -> None:
    """What an authority signed, beneath zlib."""
    with suppress(BundleError):
        read = read_payload(Envelope(OPEN_TYPE, sealing.pack(data)), None)
        assert sealing.unpack(make_envelope(read).payload, len(data)) == data


def invite(data: bytes) -> None:
    """A pasted invite."""
    with suppress(LinkError):
        read = parse_invite(_text(data))
        assert parse_invite(format_invite(read)) == read


def link(data: bytes) -> None:
    """A pasted share link, by the core's rules and by those of each transport."""
    text = _text(data)
    with suppress(LinkError):
        read = parse_link(text)
        assert parse_link(format_link(read)) == read
    with suppress(LinkError, UnsupportedError):
        relay = parse_relay_link(text)
        assert parse_relay_link(format_relay_link(relay)) == relay
    for transport in TRANSPORTS:
        with suppress(LinkError, UnsupportedError):
            entry = transport.parse(text)
            assert transport.parse(entry.link) == entry


def key(data: bytes) -> None:
    """A key file."""
    with suppress(ValueError):
        text = _text(data)
        assert parse_key(text, *KeyKind).text() == text.strip()


def pasted(data: bytes) -> None:
    """A pasted list: each of its links can be used, or one line says why not."""
    with suppress(LinkError):
        for _, text in number_links(data.decode(errors="replace")):
            with suppress(LinkError, UnsupportedError):
                entry = parse_candidate(text, BY_SCHEME).entry
                assert parse_candidate(entry.link, BY_SCHEME).entry == entry


def subscription(data: bytes) -> None:
    """A subscription, which nobody signs: what it gives does not depend on where it is cut."""
    assert _subscribed(data, 7) == _subscribed(data, len(data) or 1)


def _subscribed(data: bytes, size: int) -> tuple[str, ...] | str:
    reading = ListReading(SUBSCRIPTION, NOW, BY_SCHEME, lists_account(Memory(4 << 20)))
    try:
        for start in range(0, len(data), size):
            reading.take(data[start : start + size])
        reading.end()
        links = reading.finish().entries
    except LinkError as error:
        return str(error)
    assert len(links) == reading.count
    for each in links:
        assert parse_candidate(each, BY_SCHEME).entry.link == each
    return links


def chunks(data: bytes) -> None:
    """A manifest, a chunk and a whole bundle out of TXT records."""
    with suppress(ValueError):
        assert dns_chunks.parse_manifest(data).labels
    label, _, text = data.partition(b" ")
    with suppress(ValueError):
        dns_chunks.parse_chunk(label.decode(errors="replace"), text)
    with suppress(ValueError):
        joined = dns_chunks.join([data])
        assert dns_chunks.to_records(joined)


def dns_message(data: bytes) -> None:
    """What came back from a resolver, or from somebody faster."""
    with suppress(ValueError):
        assert sum(map(len, read_answer(data).texts)) <= len(data)


def source(data: bytes) -> None:
    """Where to ask, by the rules of each channel."""
    for channel in CHANNELS:
        with suppress(LinkError):
            channel.check(_text(data))


def hello(data: bytes) -> None:
    """The first frame of a carrier, of whoever got as far as to send one."""
    with suppress(ProtocolError):
        said = parse_hello(data)
        assert said is None or format_hello(said[0]) == data[: said[1]]
    with suppress(ProtocolError):
        parse_answer(data)


def opening(data: bytes) -> None:
    """What a client asks a relay to connect to."""
    with suppress(ProtocolError):
        destination = parse_opening(data)
        assert parse_opening(format_opening(destination)) == destination


def session(data: bytes) -> None:
    """Frames from the other end of a session: taken or refused, within the memory allowed."""
    now, limits = 100.0, SessionLimits(send=1 << 18, receive=1 << 19, streams=8)
    account = Memory(4 << 20).account("session")
    engine = Engine(account, limits, now, Random(1), is_client=False)
    carrier = engine.attach(1, 0.01, now)
    stream = engine.open(b"")
    engine.write(stream, memoryview(b"said"))
    block = memoryview(bytearray(1 << 15))
    view = memoryview(data)
    with suppress(ProtocolError):
        while engine.fill(carrier, block, now) or view:
            view = view[engine.receive(carrier, view, now) :]
            for each, _ in engine.state.accepted:
                engine.read_into(each, block, now)
            now += 1.0
            engine.tick(now)
            if len(view) < len(data) and not engine.has_work(carrier, now):
                break
    assert account.held <= limits.send + limits.receive


def http_request(data: bytes) -> None:
    """What a program on this machine asks for; whoever gets it written out reads the same."""
    with suppress(ProtocolError, UnsupportedError):
        if found := http_heads.parse_request(data):
            request, end = found
            assert end <= len(data)
            first = b"%b %b HTTP/1.%d" % (request.method, request.target, not request.is_old)
            again = http_heads.format_head(first, request.headers)
            assert again.count(b"\n") == again.count(b"\r") == len(request.headers) + 2
            read = http_heads.parse_request(again + b"GET ")
            assert read
            assert read[1] == len(again)
            assert (read[0].headers, type(read[0].body)) == (request.headers, type(request.body))


def http_answer(data: bytes) -> None:
    """What any destination answers."""
    for to_head in (False, True):
        with suppress(ProtocolError):
            if found := http_heads.parse_answer(memoryview(data), to_head=to_head):
                answer, end = found
                assert end <= len(data)
                first = b"HTTP/1.1 %d %b" % (answer.status, answer.reason)
                again = http_heads.format_head(first, answer.headers)
                assert again.count(b"\n") == again.count(b"\r") == len(answer.headers) + 2
                read = http_heads.parse_answer(again + b"HTTP", to_head=to_head)
                assert read
                assert read[1] == len(again)
                assert (read[0].headers, read[0].reason) == (answer.headers, answer.reason)


def http_chunks(data: bytes) -> None:
    """A body in chunks, which must end at the same place however it is cut into pieces."""
    for stage in (REQUEST, ANSWER):
        for unwraps in (False, True):
            results = []
            for size in (3, len(data) or 1):
                body = Chunked(stage)
                body.unwraps = unwraps
                results.append(_pieces(body, data, size))
            assert results[0] == results[1]


def _pieces(body: Body, data: bytes, size: int) -> tuple[bytes, bool] | None:
    passed = b""
    for at in range(0, len(data), size):
        piece = memoryview(bytearray(data[at : at + size]))
        if not body.is_over:
            try:
                passed += piece[: body.take(piece)]
            except ProtocolError:
                return None
    return passed, body.is_over


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        bundle,
        packed,
        payload,
        invite,
        link,
        key,
        pasted,
        subscription,
        chunks,
        dns_message,
        source,
        hello,
        opening,
        session,
        http_request,
        http_answer,
        http_chunks,
    )
}


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
