"""Encrypted Client Hello (RFC 9849): a hello with the true name, sealed inside of a harmless one.

No ticket is offered with it.
"""

from __future__ import annotations

import hmac
import os

from circumvent.errors import LinkError
from circumvent.wire.tls13.codes import (
    MESSAGE_HEADER,
    TAG,
    Alert,
    Extension,
)
from circumvent.wire.tls13.ech_config import EchConfig
from circumvent.wire.tls13.extension_bodies import is_grease, name_body
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.hello import Hello
from circumvent.wire.tls13.hpke import KDF, start
from circumvent.wire.tls13.key_schedule import KeySchedule, Transcript, expand_label, extract
from circumvent.wire.tls13.reader import u8, u16, u16s, vector8, vector16
from circumvent.wire.tls13.server_hello import ServerHello

_OUTER, _INNER = b"\0", b"\1"  # RFC 9849 §5: the type of ECHClientHello
_ONLY_TLS13 = b"\x02\x03\x04"
_INFO = b"tls ech\0"
# Only for TLS 1.2, which an inner hello does not offer: they would be a waste in it.
_OLD = frozenset((0x0017, 0xFF01, 0x000B, 0x0023))
_OWN = frozenset((Extension.SERVER_NAME, Extension.VERSIONS, Extension.ECH))
_PROOF = 8  # bytes of a random in which a server says that it could open the inner hello
_PROOF_AT = MESSAGE_HEADER + 2 + 32 - _PROOF
_ROUND = 32  # what is sealed is a multiple of so many bytes


class EncryptedGreeting(Greeting):
    """A greeting whose ``hello`` shows the public name; ``server_name`` is for the inner one.

    A server that cannot open it answers the outer hello: then ``is_rejected``.
    """

    __slots__ = ("_config", "_inner", "_key", "_outer", "_random", "_sealing", "_server_name")

    def __init__(self, hello: Hello, server_name: str, config: EchConfig) -> None:
        super().__init__(hello)
        try:
            self._key, self._sealing = start(config.public_key, config.aead, _INFO + config.raw)
        except ValueError:
            raise LinkError("ech: the key is malformed; ask for a new link") from None
        self._config, self._server_name = config, server_name
        self._random = os.urandom(len(hello.random))
        self._inner, self._outer = Transcript(), Transcript()
        hello.bodies[Extension.SERVER_NAME] = name_body(config.public_name)
        if Extension.ECH not in hello.order:  # the browser has no ECH; who asked for it wants it
            hello.order.insert(-1, Extension.ECH)

    def say(self) -> bytes:
        inner, self.message = self._seal(self._key)
        self._inner.start(inner)
        self._outer.start(self.message)
        self.transcript = self._inner
        return self.message

    def _seal(self, encapsulated: bytes) -> tuple[bytes, bytes]:
        """The inner and the outer hello; the latter's ECH extension is sealed over all of it."""
        hello = self._hello
        inner, encoded = self._inner_hello()
        size = len(encoded) + TAG
        suite = u16(KDF) + u16(self._config.aead) + u8(self._config.config_id)
        head = _OUTER + suite + vector16(encapsulated)
        hello.bodies[Extension.ECH] = head + vector16(bytes(size))
        payload = self._sealing.seal(encoded, hello.message()[MESSAGE_HEADER:])
        hello.bodies[Extension.ECH] = head + vector16(payload)
        return inner, hello.message()

    def _inner_hello(self) -> tuple[bytes, bytes]:
        """The inner hello, and how it is sealed: what the outer one has too is only named."""
        outer = self._hello
        same = [c for c in outer.order if c not in _OWN and c not in _OLD and not is_grease(c)]
        bodies = outer.bodies | {
            Extension.SERVER_NAME: name_body(self._server_name),
            Extension.VERSIONS: _ONLY_TLS13,
            Extension.ECH: _INNER,
            Extension.ECH_OUTER: vector8(u16s(tuple(same))),
        }
        inner = Hello(
            outer.template, outer.ciphers, [*sorted(_OWN), *same], bodies, outer.alpn, outer.pairs
        )
        inner.random, inner.session_id = self._random, outer.session_id
        message = inner.message()
        inner.order, inner.session_id = [*sorted(_OWN), Extension.ECH_OUTER], b""
        encoded = inner.message()[MESSAGE_HEADER:]
        return message, encoded + bytes(self._padding(len(encoded)))

    def _padding(self, size: int) -> int:
        """So that the length does not tell the name's."""
        name = max(self._config.max_name - len(self._server_name), 0)
        return name + -(size + name) % _ROUND

    def say_again(self, answer: ServerHello, message: bytes) -> bytes:
        self._prepare_again(answer)
        name = answer.suite.hash_name
        self._inner.retry(name)
        self._outer.retry(name)
        digest = self._inner.digest_with(_without_proof(message, answer.ech))
        self._judge(answer, answer.ech, b"hrr ech accept confirmation", digest)
        self._inner.add(message)
        self._outer.add(message)
        if self.is_rejected:
            self.message = self._hello.message()  # with the ECH extension as it was
        else:
            inner, self.message = self._seal(b"")
            self._inner.add(inner)
        self._outer.add(self.message)
        return self.message

    def agree(self, answer: ServerHello, message: bytes) -> tuple[KeySchedule, bool]:
        if not self.is_rejected:
            self._inner.choose(answer.suite.hash_name)
            zeroed = message[:_PROOF_AT] + bytes(_PROOF) + message[_PROOF_AT + _PROOF :]
            digest = self._inner.digest_with(zeroed)
            was_opened = self._retried is not None
            proof = answer.random[-_PROOF:]
            is_opened = self._judge(answer, proof, b"ech accept confirmation", digest)
            if was_opened and not is_opened:
                raise Fault(
                    Alert.ILLEGAL_PARAMETER,
                    "the server opened the encrypted greeting, and then it could not",
                )
        return super().agree(answer, message)

    def _judge(self, answer: ServerHello, proof: bytes, label: bytes, digest: bytes) -> bool:
        """Whether the server could open the inner hello (RFC 9849 §7.2)."""
        name = answer.suite.hash_name
        secret = extract(name, b"", self._random)
        expected = expand_label(name, secret, label, digest, _PROOF)
        self.is_rejected = not hmac.compare_digest(expected, proof)
        if self.is_rejected:
            self.transcript = self._outer
        return not self.is_rejected

    @property
    def sent(self) -> set[int]:
        """A server that could open it has no other key to offer."""
        return super().sent if self.is_rejected else super().sent - {Extension.ECH}


def _without_proof(message: bytes, proof: bytes) -> bytes:
    """A HelloRetryRequest with zeros for the proof in its ECH extension."""
    head = u16(Extension.ECH) + u16(len(proof))
    return message.replace(head + proof, head + bytes(len(proof)))
