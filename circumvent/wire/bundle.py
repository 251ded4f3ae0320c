"""Signed bundles: a versioned list of server entries, and where to ask for the next one.

An authority signs bundles; its keys and threshold (``Trust``) come with an invite. The payload is
compressed and, where the bundle is meant for one bucket only, sealed to that bucket (HPKE, RFC
9180). Signing comes last: a payload that the authority did not sign is neither opened nor unpacked.
Versions only grow, and a bundle may name the next keys: the rules of TUF (theupdateframework.io,
specification §5) without its many files.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from circumvent.errors import BundleError, Fault
from circumvent.wire import canonical_json, sealing
from circumvent.wire.dsse import KEY_SIZE, Envelope, is_intact
from circumvent.wire.link_text import MAX_LINK, is_clean

# Bounds of what an authority signs. Lists that nobody signs, subscriptions, have none of these.
MAX_BUNDLE = 64 * 1024  # bytes; as DNS records it is some 70 answers
MAX_PAYLOAD = 256 * 1024  # bytes unpacked: all the entries below, each as long as a long link
MAX_ENTRIES = 256
MAX_SOURCES = 32
MAX_SOURCE = 1024  # characters
MAX_KEYS = 8
MAX_SKEW = 24 * 3600  # seconds that our clock may be behind: the bundle is used, with a warning
_WHOLE = 1 << 53  # RFC 8259 §6: beyond it, readers of JSON disagree about numbers

OPEN_TYPE = "application/vnd.circumvent.bundle.v1"
SEALED_TYPE = OPEN_TYPE + "+hpke"

Number = Annotated[int, msgspec.Meta(gt=0, lt=_WHOLE)]
Entry = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LINK)]
Source = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SOURCE)]


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose signatures count (raw Ed25519 keys), and how many of them are needed.

    Raises ValueError when the threshold cannot be met, a key is malformed or occurs twice.
    """

    keys: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_KEYS)]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 0 < len(self.keys) <= MAX_KEYS or len(set(self.keys)) != len(self.keys):
            raise ValueError(f"an authority has 1 to {MAX_KEYS} different keys")
        if any(len(key) != KEY_SIZE for key in self.keys):
            raise ValueError(f"a key has {KEY_SIZE} bytes")
        if not 0 < self.threshold <= len(self.keys):
            raise ValueError(f"the threshold is 1 to {len(self.keys)}, the number of keys")

    @property
    def authority(self) -> str:
        """A short name of the authority that holds the keys."""
        material = b"".join((bytes((self.threshold,)), *sorted(self.keys)))
        return hashlib.sha256(material).hexdigest()[:16]


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an authority publishes. Times are unix seconds; ``entries`` are share links, secret.

    Raises ValueError when it could never be valid, or a link holds what no link may hold.
    """

    version: Number
    issued: Number
    expires: Number
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    sources: Annotated[tuple[Source, ...], msgspec.Meta(max_length=MAX_SOURCES)] = ()
    next_trust: Trust | None = None

    def __post_init__(self) -> None:
        if self.issued >= self.expires:
            raise ValueError("it expires before it is issued")
        if not all(map(is_clean, (*self.entries, *self.sources))):
            raise ValueError("a link holds a space, a line break or a control character")

    def __repr__(self) -> str:
        return f"Bundle(version={self.version}, expires={self.expires}, …)"

    @property
    def count(self) -> int:
        """How many entries it has."""
        return len(self.entries)

    def clock_behind(self, now: float) -> float:
        """Seconds that our clock is at least behind the signers'; 0 when nothing shows it."""
        return max(0.0, self.issued - now)


def make_envelope(bundle: Bundle, bucket: bytes | None = None) -> Envelope:
    """An envelope without signatures, sealed to ``bucket`` (a raw X25519 public key) if given.

    Raises BundleError when the bundle breaks a limit.
    """
    payload = canonical_json.serialize(bundle)
    try:
        canonical_json.parse(payload, Bundle)  # do not write what no client could read
    except ValueError as error:
        raise BundleError(Fault.BROKEN, str(error)) from error
    packed = sealing.pack(payload)
    if bucket is None:
        return Envelope(OPEN_TYPE, packed)
    return Envelope(SEALED_TYPE, sealing.seal(packed, bucket))


def format_bundle(envelope: Envelope) -> bytes:
    """A signed envelope as bytes; raises BundleError when they are too many."""
    data = canonical_json.serialize(envelope)
    if len(data) > MAX_BUNDLE:
        raise BundleError(Fault.TOO_LARGE, f"{len(data)} bytes of {MAX_BUNDLE}")
    return data


def parse_bundle(data: bytes) -> Envelope:
    """The envelope in ``data``, nothing verified; raises BundleError."""
    if len(data) > MAX_BUNDLE:
        raise BundleError(Fault.TOO_LARGE, f"more than {MAX_BUNDLE} bytes")
    try:
        envelope = canonical_json.parse(data, Envelope)
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise BundleError(Fault.NOT_A_BUNDLE) from error
    if envelope.payload_type not in {OPEN_TYPE, SEALED_TYPE}:
        raise BundleError(Fault.NOT_A_BUNDLE, "of another type, or of a later version")
    return envelope


def open_bundle(
    data: bytes, trust: Trust, bucket: bytes | None, now: float, newest_version: int = 0
) -> Bundle:
    """Verify and read a bundle; raises BundleError.

    ``bucket`` is the invite's raw X25519 private key; with it, only what is sealed to it counts.
    ``newest_version`` is the highest that was ever seen: older ones are refused, that one is not.
    Next keys count only when enough of them have signed, too: so a client that changes to them will
    find bundles that they sign.
    """
    envelope = parse_bundle(data)
    verify_signatures(envelope, trust)
    bundle = read_payload(envelope, bucket)
    if bundle.next_trust is not None:
        _verify_next(envelope, bundle.next_trust)
    if bundle.version < newest_version:
        raise BundleError(Fault.ROLLED_BACK, f"version {bundle.version} after {newest_version}")
    check_time(bundle, now)
    return bundle


def verify_signatures(envelope: Envelope, trust: Trust) -> None:
    """Raise BundleError unless enough trusted keys have signed."""
    trusted = len(envelope.signers.intersection(trust.keys))
    if not trusted:
        raise BundleError(Fault.WRONG_KEY)
    if not is_intact(envelope):
        raise BundleError(Fault.ALTERED)
    if trusted < trust.threshold:
        raise BundleError(Fault.THRESHOLD, f"{trusted} of {trust.threshold}")


def _verify_next(envelope: Envelope, trust: Trust) -> None:
    good = len(envelope.signers.intersection(trust.keys))
    if good < trust.threshold:
        raise BundleError(
            Fault.THRESHOLD, f"{good} of {trust.threshold} of the next keys that it names"
        )


def read_payload(envelope: Envelope, bucket: bytes | None) -> Bundle:
    """The bundle in a verified envelope; raises BundleError.

    With a ``bucket``, an open bundle is refused: or anybody who has the authority's open bundles
    could put them in place of the sealed ones.
    """
    if (envelope.payload_type == SEALED_TYPE) != (bucket is not None):
        raise BundleError(Fault.NOT_FOR_YOU)
    packed = envelope.payload if bucket is None else sealing.unseal(envelope.payload, bucket)
    if packed is None:
        raise BundleError(Fault.NOT_FOR_YOU)
    try:
        return canonical_json.parse(sealing.unpack(packed, MAX_PAYLOAD), Bundle)
    except ValueError as error:
        raise BundleError(Fault.BROKEN, str(error)) from error


def check_time(bundle: Bundle, now: float) -> None:
    """Raise BundleError when a bundle has expired, or comes from too far in the future."""
    if bundle.clock_behind(now) > MAX_SKEW:
        raise BundleError(Fault.NOT_YET, f"{_duration(bundle.issued - now)} from now")
    if now >= bundle.expires:
        raise BundleError(Fault.EXPIRED, f"{_duration(now - bundle.expires)} ago")


def _duration(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
