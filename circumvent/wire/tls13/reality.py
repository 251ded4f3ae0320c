"""The proof of a REALITY server (XTLS/REALITY), in place of a certificate.

The client hides a token in the session id; a server that can read it answers with a certificate
made for this connection, signed by an HMAC. To anybody else it is the site that it imitates.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from circumvent.errors import LinkError
from circumvent.wire.tls13.codes import Alert
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.hello import RANDOM_AT, SESSION_ID_SIZE, Hello
from circumvent.wire.tls13.key_schedule import expand, extract
from circumvent.wire.tls13.key_shares import x25519_of
from circumvent.wire.tls13.proofs import Proof, PublicKey, Shown

# Xray 26.7.11 to 26.7.28 refuses clients that say they are older than 26.3.27. From 26.9.8 on it
# looks at the hello instead: a hybrid key share must come before the plain one, each once, as in
# every template here. Whoever raises the number must see that our hellos are those of the day.
VERSION = (26, 7, 28)
KEY_SIZE, PQ_KEY_SIZE, SHORT_ID_SIZE = 32, 1952, 8
_HASH = "sha256"
_INFO = b"REALITY"
_SALT = 20  # bytes of the random; the other twelve are the nonce
_RANDOM = slice(RANDOM_AT, RANDOM_AT + 32)
# The certificate is always the same but for the key and the signatures, so it is read by offset:
# its serial number is 0, which parsers are about to refuse.
_PREFIX = bytes.fromhex("300506032b6570032100")  # Ed25519, and the key follows
_SIGNATURE_SIZE, _PQ_SIGNATURE_SIZE = 64, 3309
_PQ_AT = 126


@dataclass(frozen=True, slots=True)
class Server:
    """What a link says of a REALITY server; raises LinkError for keys of a wrong size.

    ``public_key`` is ``pbk`` (32 bytes), ``short_id`` is ``sid`` (at most 8), ``pq_key`` is ``pqv``
    (1952 bytes of ML-DSA-65, or empty).
    """

    public_key: bytes
    short_id: bytes = b""
    pq_key: bytes = b""

    def __post_init__(self) -> None:
        if len(self.public_key) != KEY_SIZE:
            raise LinkError(f"the public key (pbk) must be {KEY_SIZE} bytes long")
        if len(self.short_id) > SHORT_ID_SIZE:
            raise LinkError(f"the short id (sid) must be at most {SHORT_ID_SIZE} bytes long")
        if len(self.pq_key) not in {0, PQ_KEY_SIZE}:
            raise LinkError(f"the key of ML-DSA-65 (pqv) must be {PQ_KEY_SIZE} bytes long")


class RealityProof:
    """One connection to a REALITY server: seals our hello, then looks at the answer.

    ``otherwise`` is how the genuine certificate of the imitated site is to be checked.
    """

    __slots__ = ("_auth_key", "_otherwise", "_server", "is_genuine")
    key_sha256 = b""

    def __init__(self, server: Server, otherwise: Proof) -> None:
        self._server = server
        self._otherwise = otherwise
        self._auth_key = b""
        self.is_genuine = False

    def seal(self, hello: Hello, unix_time: int) -> None:
        """Put the token into ``hello``; raises LinkError when it has no key for it."""
        pair = x25519_of(hello.pairs)
        if pair is None:
            raise LinkError("REALITY needs a fingerprint (fp) with an X25519 key")
        try:
            shared = pair.agree(self._server.public_key)
        except ValueError:
            raise LinkError("the public key (pbk) is no key") from None
        self._auth_key = auth_key(shared, hello.random)
        hello.session_id = bytes(SESSION_ID_SIZE)
        token = make_token(self._server.short_id, unix_time)
        hello.session_id = seal_token(self._auth_key, token, hello.message())

    def check(self, shown: Shown) -> PublicKey:
        key = self._own_key(shown)
        self.is_genuine = key is not None
        return self._otherwise.check(shown) if key is None else key

    def _own_key(self, shown: Shown) -> PublicKey | None:
        """The key of a server that knows us; None when it is somebody else's certificate.

        Raises Fault when the server knows us and does not hold the other key of the link.
        """
        certificate = shown.chain[0]
        _, found, rest = certificate.partition(_PREFIX)
        if not found:
            return None
        key = rest[:KEY_SIZE]
        expected = hmac.digest(self._auth_key, key, hashlib.sha512)
        if not hmac.compare_digest(expected, certificate[-_SIGNATURE_SIZE:]):
            return None
        if self._server.pq_key and not self._is_pq_signed(key, certificate, shown):
            raise Fault(
                Alert.BAD_CERTIFICATE,
                "the server knows us, but its certificate is not signed by the key of ML-DSA-65 "
                "(pqv): ask for a new link, or somebody stands between",
            )
        return Ed25519PublicKey.from_public_bytes(key)

    def _is_pq_signed(self, key: bytes, certificate: bytes, shown: Shown) -> bool:
        signed = hmac.digest(
            self._auth_key, key + shown.client_hello + shown.server_hello, hashlib.sha512
        )
        signature = certificate[_PQ_AT : _PQ_AT + _PQ_SIGNATURE_SIZE]
        try:
            MLDSA65PublicKey.from_public_bytes(self._server.pq_key).verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def auth_key(shared: bytes, random: bytes) -> bytes:
    """The key that both ends derive; ``random`` is that of the ClientHello."""
    return expand(_HASH, extract(_HASH, random[:_SALT], shared), _INFO, KEY_SIZE)


def make_token(short_id: bytes, unix_time: int) -> bytes:
    """What the session id says, in 16 bytes: version, time, short id."""
    return bytes((*VERSION, 0)) + unix_time.to_bytes(4) + short_id.ljust(SHORT_ID_SIZE, b"\0")


def seal_token(key: bytes, token: bytes, message: bytes) -> bytes:
    """The session id; ``message`` is the whole hello, with zeros in its place."""
    return AESGCM(key).encrypt(message[_RANDOM][_SALT:], token, message)
