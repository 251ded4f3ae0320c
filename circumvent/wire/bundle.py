"""Signed bundles: a versioned list of server entries, and where to ask for the next one.

An authority signs bundles; its keys and threshold (``Trust``) come with an invite. The payload is
compressed, padded and, where the bundle is meant for one bucket only, sealed to that bucket
(HPKE, RFC 9180). Signing comes last: what is not signed by the authority is neither opened nor
unpacked. Versions only grow, and a bundle that verifies may name the next keys: the rules of TUF
(theupdateframework.io, specification §5) without its many files.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass, field

import msgspec

from circumvent.wire import sealing
from circumvent.wire.dsse import (
    KEY_SIZE,
    Envelope,
    format_envelope,
    good_signers,
    key_id,
    parse_envelope,
    sign,
)
from circumvent.wire.links import MAX_LINK
from circumvent.wire.strict_json import parse_strict_json

MAX_BUNDLE = 64 * 1024  # bytes; as DNS records it is some 70 answers
MAX_PAYLOAD = 256 * 1024  # bytes unpacked: the entries below, each as long as a long link
MAX_ENTRIES = 256
MAX_SOURCES = 32
MAX_SOURCE = 1024  # characters
MAX_KEYS = 8
MAX_SKEW = 24 * 3600  # seconds that our clock may be behind; it is told, and the bundle used

OPEN_TYPE = "application/vnd.circumvent.bundle.v1"
SEALED_TYPE = OPEN_TYPE + "+hpke"


class Fault(enum.Enum):
    """Why a bundle is refused, in a user's words."""

    NOT_A_BUNDLE = "this is not a bundle"
    TOO_LARGE = "it is larger than any bundle may be"
    WRONG_KEY = "nobody whom you trust has signed it"
    ALTERED = "it was altered after it was signed"
    THRESHOLD = "too few of those whom you trust have signed it"
    NOT_FOR_YOU = "it is for the holders of another invite"
    BROKEN = "its signer wrote what no bundle may hold"
    NOT_YET = "it comes from the future: set the clock of this machine"
    EXPIRED = "it has expired (or the clock of this machine is ahead)"
    ROLLED_BACK = "a newer one was seen before: somebody replays an old one"


class BundleError(Exception):
    """A bundle is refused; ``fault`` says why, the text in full."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault.value} ({detail})" if detail else fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count (raw Ed25519 keys), and how many of them are needed.

    Raises ValueError when the threshold cannot be met, or a key is none or there twice.
    """

    keys: tuple[bytes, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 0 < len(self.keys) <= MAX_KEYS or len(set(self.keys)) != len(self.keys):
            message = f"an authority has 1 to {MAX_KEYS} different keys"
            raise ValueError(message)
        if any(len(key) != KEY_SIZE for key in self.keys):
            message = f"a key has {KEY_SIZE} bytes"
            raise ValueError(message)
        if not 0 < self.threshold <= len(self.keys):
            message = f"the threshold is 1 to {len(self.keys)}, the number of keys"
            raise ValueError(message)

    @property
    def authority(self) -> str:
        """A short name for the first trust that an invite gave; later ones keep it."""
        material = b"".join((bytes((self.threshold,)), *sorted(self.keys)))
        return hashlib.sha256(material).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an authority says. Times are unix seconds; ``entries`` are share links, secret."""

    version: int
    issued: int
    expires: int
    entries: tuple[str, ...] = field(repr=False)
    sources: tuple[str, ...] = ()
    next_trust: Trust | None = None

    def clock_behind(self, now: float) -> float:
        """Seconds that our clock is behind the signer's at least; 0 when nothing says so."""
        return max(0.0, self.issued - now)


class _Trust(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    keys: list[str]
    threshold: int = 1


class _Payload(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    version: int
    issued: int
    expires: int
    entries: list[str]
    sources: list[str] = []
    trust: _Trust | None = None


def make_envelope(bundle: Bundle, bucket: bytes | None = None) -> Envelope:
    """An envelope without signatures, sealed to ``bucket`` (a raw X25519 public key) if given.

    Raises BundleError when the bundle breaks a limit.
    """
    _check(bundle)
    payload = sealing.pack(_encode(bundle))
    if bucket is not None:
        return Envelope(SEALED_TYPE, sealing.seal(payload, bucket), ())
    return Envelope(OPEN_TYPE, payload, ())


def sign_bundle(envelope: Envelope, private_key: bytes) -> Envelope:
    """The envelope with one more signature (raw Ed25519 key)."""
    return sign(envelope, private_key)


def parse_bundle(data: bytes) -> Envelope:
    """The envelope in ``data``, nothing verified; raises BundleError."""
    if len(data) > MAX_BUNDLE:
        raise BundleError(Fault.TOO_LARGE, f"more than {MAX_BUNDLE} bytes")
    try:
        envelope = parse_envelope(data)
    except ValueError as error:  # msgspec's errors, and those of UTF-8, are ValueErrors
        raise BundleError(Fault.NOT_A_BUNDLE) from error
    if envelope.payload_type not in {OPEN_TYPE, SEALED_TYPE}:
        raise BundleError(Fault.NOT_A_BUNDLE, "of another type, or of a later version")
    if format_envelope(envelope) != data:
        raise BundleError(Fault.ALTERED, "not in its one canonical form")
    return envelope


def open_bundle(
    data: bytes, trust: Trust, bucket: bytes | None, now: float, newest_version: int = 0
) -> Bundle:
    """Verify and read a bundle; raises BundleError.

    ``bucket`` is the invite's raw X25519 private key. ``newest_version`` is the highest that this
    authority was ever seen to sign: older ones are refused, that one itself is not.
    """
    envelope = parse_bundle(data)
    verify_signatures(envelope, trust)
    bundle = read_payload(envelope, bucket)
    if bundle.version < newest_version:
        detail = f"version {bundle.version} after {newest_version}"
        raise BundleError(Fault.ROLLED_BACK, detail)
    check_time(bundle, now)
    return bundle


def verify_signatures(envelope: Envelope, trust: Trust) -> None:
    """Raise BundleError unless enough of those whom we trust have signed."""
    claimed = {each.key_id for each in envelope.signatures} & set(map(key_id, trust.keys))
    good = good_signers(envelope, trust.keys)
    if not claimed:
        raise BundleError(Fault.WRONG_KEY)
    if len(good) < len(claimed):
        raise BundleError(Fault.ALTERED)
    if len(good) < trust.threshold:
        raise BundleError(Fault.THRESHOLD, f"{len(good)} of {trust.threshold}")


def read_payload(envelope: Envelope, bucket: bytes | None) -> Bundle:
    """What a verified envelope says; raises BundleError."""
    payload = envelope.payload
    if envelope.payload_type == SEALED_TYPE:
        opened = sealing.unseal(payload, bucket) if bucket is not None else None
        if opened is None:
            raise BundleError(Fault.NOT_FOR_YOU)
        payload = opened
    try:
        bundle = _decode(sealing.unpack(payload, MAX_PAYLOAD))
    except ValueError as error:
        raise BundleError(Fault.BROKEN, "unreadable, or too large when unpacked") from error
    _check(bundle)
    return bundle


def check_time(bundle: Bundle, now: float) -> None:
    """Raise BundleError when a bundle has expired, or is too far from the future."""
    if bundle.clock_behind(now) > MAX_SKEW:
        raise BundleError(Fault.NOT_YET, f"{_duration(bundle.issued - now)} from now")
    if now >= bundle.expires:
        raise BundleError(Fault.EXPIRED, f"{_duration(now - bundle.expires)} ago")


def _check(bundle: Bundle) -> None:
    broken = (
        (bundle.version > 0, "its version is not above 0"),
        (0 < bundle.issued < bundle.expires, "it expires before it is issued"),
        (len(bundle.entries) <= MAX_ENTRIES, f"it has more than {MAX_ENTRIES} entries"),
        (all(0 < len(each) <= MAX_LINK for each in bundle.entries), "an entry is too long"),
        (len(bundle.sources) <= MAX_SOURCES, f"it has more than {MAX_SOURCES} sources"),
        (all(0 < len(each) <= MAX_SOURCE for each in bundle.sources), "a source is too long"),
    )
    for is_kept, detail in broken:
        if not is_kept:
            raise BundleError(Fault.BROKEN, detail)


def _encode(bundle: Bundle) -> bytes:
    trust = bundle.next_trust
    return msgspec.json.encode(
        _Payload(
            version=bundle.version,
            issued=bundle.issued,
            expires=bundle.expires,
            entries=list(bundle.entries),
            sources=list(bundle.sources),
            trust=_Trust([base64.b64encode(key).decode() for key in trust.keys], trust.threshold)
            if trust
            else None,
        )
    )


def _decode(data: bytes) -> Bundle:
    raw = msgspec.convert(parse_strict_json(data), _Payload)
    trust = raw.trust
    return Bundle(
        version=raw.version,
        issued=raw.issued,
        expires=raw.expires,
        entries=tuple(raw.entries),
        sources=tuple(raw.sources),
        next_trust=Trust(
            tuple(base64.b64decode(key, validate=True) for key in trust.keys), trust.threshold
        )
        if trust
        else None,
    )


def _duration(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
