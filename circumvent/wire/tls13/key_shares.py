"""How both ends agree on a secret: the client's half (RFC 8446 §4.2.8).

A pair is made for one connection and used once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from circumvent.wire.tls13.codes import Alert, Group
from circumvent.wire.tls13.faults import Fault

_CIPHERTEXT = 1088  # FIPS 203 §8: of ML-KEM-768
_X25519_SIZE = 32


class Pair(Protocol):
    """The private half of a key share, and the public half as it is sent."""

    public: bytes

    def agree(self, peer: bytes) -> bytes:
        """The secret shared with who sent ``peer``; raises ValueError when that is no share."""


class X25519Pair:
    """RFC 7748; ``private`` is shared with whoever authenticates by the same key (REALITY)."""

    __slots__ = ("private", "public")

    def __init__(self, private: X25519PrivateKey | None = None) -> None:
        self.private = private or X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()

    def agree(self, peer: bytes) -> bytes:
        return self.private.exchange(X25519PublicKey.from_public_bytes(peer))


class NistPair:
    """ECDH on a NIST curve; points are uncompressed (RFC 8446 §4.2.8.2)."""

    __slots__ = ("_curve", "_private", "public")

    def __init__(self, curve: ec.EllipticCurve) -> None:
        self._curve = curve
        self._private = ec.generate_private_key(curve)
        self.public = self._private.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )

    def agree(self, peer: bytes) -> bytes:
        if len(peer) != len(self.public):  # a compressed point would be read, too
            raise ValueError
        key = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer)
        return self._private.exchange(ec.ECDH(), key)


class HybridPair:
    """X25519MLKEM768: ML-KEM comes first, in the share and in the secret.

    draft-ietf-tls-ecdhe-mlkem §4.
    """

    __slots__ = ("_kem", "public", "x25519")

    def __init__(self, x25519: X25519Pair | None = None) -> None:
        self._kem = MLKEM768PrivateKey.generate()
        self.x25519 = x25519 or X25519Pair()
        self.public = self._kem.public_key().public_bytes_raw() + self.x25519.public

    def agree(self, peer: bytes) -> bytes:
        if len(peer) != _CIPHERTEXT + _X25519_SIZE:
            raise ValueError
        secret = self._kem.decapsulate(peer[:_CIPHERTEXT])
        return secret + self.x25519.agree(peer[_CIPHERTEXT:])


_MAKERS: dict[int, Callable[[], Pair]] = {
    Group.X25519: X25519Pair,
    Group.P256: lambda: NistPair(ec.SECP256R1()),
    Group.P384: lambda: NistPair(ec.SECP384R1()),
    Group.P521: lambda: NistPair(ec.SECP521R1()),
    Group.X25519_MLKEM768: HybridPair,
}
USABLE = frozenset(_MAKERS)


def make_pairs(groups: Iterable[int], *, same_x25519: bool) -> dict[int, Pair]:
    """A pair for each group that is known; the others (GREASE) have none.

    ``same_x25519``: one X25519 key stands in both the plain and the hybrid share, as in Firefox.
    """
    pairs = {group: _MAKERS[group]() for group in groups if group in _MAKERS}
    hybrid = pairs.get(Group.X25519_MLKEM768)
    if same_x25519 and isinstance(hybrid, HybridPair) and Group.X25519 in pairs:
        pairs[Group.X25519] = hybrid.x25519
    return pairs


def x25519_of(pairs: dict[int, Pair]) -> X25519Pair | None:
    """The X25519 key that a REALITY server looks at: of the plain share, else of the hybrid one."""
    plain = pairs.get(Group.X25519)
    if isinstance(plain, X25519Pair):
        return plain
    hybrid = pairs.get(Group.X25519_MLKEM768)
    return hybrid.x25519 if isinstance(hybrid, HybridPair) else None


def agree(pairs: dict[int, Pair], group: int, peer: bytes) -> bytes:
    """The shared secret; raises Fault when the server chose what was not offered, or nonsense."""
    pair = pairs.get(group)
    if pair is None:
        raise Fault(
            Alert.ILLEGAL_PARAMETER, "the server chose a key exchange that we did not offer"
        )
    try:
        return pair.agree(peer)
    except ValueError:  # also a point of small order, whose secret would be zero
        raise Fault(Alert.ILLEGAL_PARAMETER, "the server's key share is not valid") from None
