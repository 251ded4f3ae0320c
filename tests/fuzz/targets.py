"""One function for each parser: any input either gives its one documented error, or a value.

A value must say again what was read, so that a parser that misreads is found too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from circumvent.errors import BundleError, LinkError, UnsupportedError
from circumvent.wire import dns_chunks, sealing
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
from circumvent.wire.invite import format_invite, parse_invite
from circumvent.wire.keys import Key, Kind, parse_key
from circumvent.wire.links import format_link, parse_link
from circumvent.wire.relay_link import format_relay_link, parse_relay_link
from circumvent.wire.subscription import parse_subscription
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
SIGNERS = tuple(Key(Kind.SIGNER, bytes((number,)) * 32) for number in (1, 2))
BUCKET = Key(Kind.BUCKET, b"\x09" * 32)
TRUST = Trust(tuple(signer.public().raw for signer in SIGNERS))
LINKS = ("ss://YWVzLTEyOC1nY206c2VjcmV0@192.0.2.1:8388#one", "trojan://s@a.test:443?sni=b.test#two")
LIST = Bundle(7, NOW - 60, NOW + 86400, LINKS, ("https://m.test/b", "dns:b.test"))
LAST_LIST = replace(LIST, version=9, next_trust=replace(TRUST, threshold=2))
TRANSPORTS = (shadowsocks.Shadowsocks(), trojan.Trojan(), vless.Vless())


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
        assert parse_key(text, *Kind).text() == text.strip()


def subscription(data: bytes) -> None:
    """A subscription, which nobody signs: what it gives must be fit for a bundle."""
    with suppress(LinkError):
        make_envelope(Bundle(1, 1, 2, parse_subscription(data)))


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


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        bundle,
        packed,
        payload,
        invite,
        link,
        key,
        subscription,
        chunks,
        dns_message,
        source,
    )
}


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
