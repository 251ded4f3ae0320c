"""A bundle as DNS TXT records.

The bundle is compressed and cut; each chunk is a record whose name is the start of its SHA-256.
So a forged chunk is noticed at once, chunks may come from different resolvers, and any cache may
keep them. One more record, the manifest, lists the names in order: only its forgery is not noticed
before the bundle's signature is checked. All text is base64url or base32hex, which every
DNS host's web form takes.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from circumvent.errors import LinkError
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.bundle import MAX_BUNDLE

MANIFEST = "list"  # its label; the version stands in its text
CHUNK = 720  # bytes; with base64, names and EDNS below 1232, which no path fragments (DNS Flag Day)
MAX_CHUNKS = -(-(MAX_BUNDLE + 1024) // CHUNK)  # zlib adds a little to what does not compress
_VERSION = b"cb1 "
_HASH = 10  # bytes: 80 bits, 16 letters; a second preimage does not forge the signature
_STRING = 255  # RFC 1035 §3.3: one character-string


class Record(NamedTuple):
    """A TXT record: its label below the zone and its text."""

    label: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The labels of the chunks, in order."""

    labels: tuple[str, ...]


def to_records(bundle: bytes) -> Sequence[Record]:
    """The manifest and the chunks of a bundle."""
    packed = zlib.compress(bundle, 9)
    pieces = [packed[at : at + CHUNK] for at in range(0, len(packed), CHUNK)]
    hashes = b"".join(map(_hash, pieces))
    manifest = Record(MANIFEST, _VERSION + encode_base64url(hashes).encode())
    chunks = {_label(piece): encode_base64url(piece).encode() for piece in pieces}
    return [manifest, *map(Record._make, chunks.items())]


def parse_manifest(text: bytes) -> Manifest:
    """Read a manifest's text; raises ValueError."""
    if not text.startswith(_VERSION):
        raise ValueError("is no manifest of this version")
    hashes = _decode(text.removeprefix(_VERSION))
    count, rest = divmod(len(hashes), _HASH)
    if rest or not 0 < count <= MAX_CHUNKS:
        raise ValueError(f"lists no chunks, or more than {MAX_CHUNKS}")
    return Manifest(tuple(_spell(hashes[at : at + _HASH]) for at in range(0, len(hashes), _HASH)))


def parse_chunk(label: str, text: bytes) -> bytes:
    """The chunk in ``text``; raises ValueError when it is not the one that ``label`` names."""
    piece = _decode(text)
    if len(piece) > CHUNK or _label(piece) != label:
        raise ValueError("is not the chunk that was asked for")
    return piece


def join(pieces: Sequence[bytes]) -> bytes:
    """The bundle of all chunks in order; raises ValueError, also when it is too large."""
    inflater = zlib.decompressobj()
    try:
        bundle = inflater.decompress(b"".join(pieces), MAX_BUNDLE)
    except zlib.error as error:
        raise ValueError("is not compressed as it should be") from error
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"is cut, or more than {MAX_BUNDLE} bytes when unpacked")
    return bundle


def zone_file(zone: str, bundle: bytes, *, serial: int, ttl: int, name_server: str) -> str:
    """A zone file (RFC 1035 §5) that BIND and Knot load.

    ``zone`` and ``name_server`` are host names, ``ttl`` is in seconds.
    """
    origin, server = f"{zone.rstrip('.')}.", f"{name_server.rstrip('.')}."
    # Caches believe that a record is missing for no longer than they keep a record that exists.
    soa = f"{server} hostmaster.{origin} {serial % (1 << 32)} 3600 900 1209600 {ttl}"
    lines = [f"$ORIGIN {origin}", f"$TTL {ttl}", f"@ IN SOA {soa}", f"@ IN NS {server}"]
    lines += [f"{record.label} IN TXT {_quoted(record.text)}" for record in to_records(bundle)]
    return "\n".join(lines) + "\n"


def _quoted(text: bytes) -> str:
    strings = [text[at : at + _STRING].decode() for at in range(0, len(text), _STRING)]
    return " ".join(f'"{string}"' for string in strings)


def _hash(piece: bytes) -> bytes:
    return hashlib.sha256(piece).digest()[:_HASH]


def _label(piece: bytes) -> str:
    return _spell(_hash(piece))


def _spell(digest: bytes) -> str:
    """Base32hex in lower case: the case of names has no meaning, and resolvers change it."""
    return base64.b32hexencode(digest).decode().lower()


def _decode(text: bytes) -> bytes:
    try:
        return decode_base64("record", text.decode("ascii"))
    except LinkError as error:
        raise ValueError(str(error)) from error
