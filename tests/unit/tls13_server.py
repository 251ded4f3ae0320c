"""A TLS 1.3 server that says whatever a test wants it to, on the client's own primitives.

``change`` gets each message with its kind before it goes out, and gives what goes out instead:
none, one or several messages. The transcript follows what went out, so that a lie is found for
what it is and not for the checksum.
"""

from __future__ import annotations

import hmac
import importlib
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from circumvent.wire.tls13.codes import RETRY_RANDOM, Content, Group, Message
from circumvent.wire.tls13.key_schedule import KeySchedule, Transcript, finished
from circumvent.wire.tls13.key_shares import X25519Pair, make_pairs
from circumvent.wire.tls13.reader import u8, u16, vector8, vector16, vector24
from circumvent.wire.tls13.records import Opener, Sealer, plain_record, record_size
from circumvent.wire.tls13.suites import SUITES
from tests.hellos.form import parse_hello

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Change = Callable[[Message, bytes], list[bytes]]
_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"


def unchanged(_: Message, message: bytes) -> list[bytes]:
    return [message]


def message(kind: Message, body: bytes) -> bytes:
    return u8(kind) + vector24(body)


def extension(code: int, body: bytes) -> bytes:
    return u16(code) + vector16(body)


def sign(key: Key, scheme: int, digest: bytes) -> bytes:
    signed = _CONTEXT + digest
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    algorithm = {3: hashes.SHA256(), 4: hashes.SHA256(), 5: hashes.SHA384(), 6: hashes.SHA512()}
    if isinstance(key, rsa.RSAPrivateKey):
        chosen = algorithm[scheme & 0xFF]
        pss = padding.PSS(padding.MGF1(chosen), padding.PSS.DIGEST_LENGTH)
        return key.sign(signed, pss, chosen)
    return key.sign(signed, ec.ECDSA(algorithm[min(5, scheme >> 8)]))


def agree(group: int, share: bytes) -> tuple[bytes, bytes]:
    """Our share and the secret."""
    if group == Group.X25519_MLKEM768:
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(share[:1184]).encapsulate()
        x25519 = X25519Pair()
        return ciphertext + x25519.public, secret + x25519.agree(share[1184:])
    pair = make_pairs((group,), same_x25519=False)[group]
    return pair.public, pair.agree(share)


def _packer(module: str) -> Callable[[bytes], bytes]:
    """Found by its name: one of them has no types, another is elsewhere from Python 3.14 on."""
    compress: Callable[[bytes], bytes] = importlib.import_module(module).compress
    return compress


ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
PACKERS = {1: zlib.compress, 2: _packer("brotli"), 3: _packer(ZSTD)}  # RFC 8879 §7.3


@dataclass
class Server:
    key: Key
    chain: list[bytes]
    scheme: int = 0x0403
    suite: int = 0x1301
    group: int = Group.X25519
    compression: int = 0
    asks_certificate: bool = False
    retries: bool = False
    cookie: bytes = b""
    answers: bytes = b""
    change: Change = unchanged
    padding: int = 0
    sealer: Sealer | None = None
    opener: Opener | None = None
    hello: bytes = b""
    came: bytes = b""
    heard: list[bytes] = field(default_factory=list)
    binding: bytes = b""

    def receive(self, data: bytes) -> bytes:
        self.came += data
        answer = b""
        while len(self.came) >= 5 and len(self.came) >= (size := record_size(self.came[:5])):
            record, self.came = self.came[:size], self.came[size:]
            if record[0] == Content.HANDSHAKE and self.opener is None:
                answer += self._greet(record)
            elif record[0] == Content.DATA and self.opener is not None:
                plain = memoryview(bytearray(size))
                content, count = self.opener.open(memoryview(record), plain)
                self.heard.append(u8(content) + bytes(plain[:count]))
                if content == Content.HANDSHAKE and not self.binding:
                    self._check_finished(bytes(plain[:count]))
        return answer

    def _greet(self, record: bytes) -> bytes:
        hello, suite = parse_hello(record), SUITES[self.suite]
        shares = _shares(hello.bodies[0x33][2:])
        if not self.hello:
            self._transcript = Transcript()
            self._transcript.start(record[5:])
        else:
            self._transcript.add(record[5:])
        self.hello = record[5:]
        if self.retries:
            self.retries = False
            self._transcript.retry(suite.hash_name)
            cookie = extension(0x2C, vector16(self.cookie)) if self.cookie else b""
            share = extension(0x33, u16(self.group)) if self.group not in shares else b""
            return self._send_hello(hello.session_id, RETRY_RANDOM, share + cookie)
        self._transcript.choose(suite.hash_name)
        own, secret = agree(self.group, shares[self.group])
        share = extension(0x33, u16(self.group) + vector16(own))
        greeting = self._send_hello(hello.session_id, os.urandom(32), share)
        self._schedule = KeySchedule(suite)
        self._schedule.mix(secret)
        said = self._transcript.digest()
        self._client = self._schedule.traffic(b"c hs traffic", said)
        self._own = self._schedule.traffic(b"s hs traffic", said)
        self.sealer, self.opener = Sealer(suite, self._own), Opener(suite, self._client)
        return greeting + plain_record(Content.CHANGE_CIPHER_SPEC, b"\x01") + self._rest()

    def _send_hello(self, session_id: bytes, random: bytes, share: bytes) -> bytes:
        extensions = extension(0x2B, b"\x03\x04") + share
        body = u16(0x0303) + random + vector8(session_id) + u16(self.suite) + b"\0"
        said = message(Message.SERVER_HELLO, body + vector16(extensions))
        return b"".join(
            plain_record(Content.HANDSHAKE, m) for m in self._say(Message.SERVER_HELLO, said)
        )

    def _say(self, kind: Message, said: bytes) -> list[bytes]:
        changed = self.change(kind, said)
        for m in changed:
            self._transcript.add(m)
        return changed

    def _rest(self) -> bytes:
        said = [self._seal_all(Message.ENCRYPTED_EXTENSIONS, vector16(self.answers))]
        if self.asks_certificate:
            asked = b"\0" + vector16(extension(0x0D, vector16(b"\x04\x03")))
            said.append(self._seal_all(Message.CERTIFICATE_REQUEST, asked))
        said.append(self._certificates())
        signature = sign(self.key, self.scheme, self._transcript.digest())
        said.append(
            self._seal_all(Message.CERTIFICATE_VERIFY, u16(self.scheme) + vector16(signature))
        )
        verify = finished(SUITES[self.suite], self._own, self._transcript.digest())
        said.append(self._seal_all(Message.FINISHED, verify))
        self._schedule.mix(b"")
        self._done = self._transcript.digest()
        self.sealer = Sealer(
            SUITES[self.suite], self._schedule.traffic(b"s ap traffic", self._done)
        )
        return b"".join(said)

    def _certificates(self) -> bytes:
        entries = b"".join(vector24(der) + b"\0\0" for der in self.chain)
        body = b"\0" + vector24(entries)
        if not self.compression:
            return self._seal_all(Message.CERTIFICATE, body)
        packed = PACKERS[self.compression](body)
        compressed = u16(self.compression) + len(body).to_bytes(3) + vector24(packed)
        return self._seal_all(Message.COMPRESSED_CERTIFICATE, compressed)

    def _seal_all(self, kind: Message, body: bytes) -> bytes:
        assert self.sealer is not None
        return b"".join(self.seal(m) for m in self._say(kind, message(kind, body)))

    def seal(self, data: bytes, content: Content = Content.HANDSHAKE) -> bytes:
        """Records under the current key, with padding."""
        assert self.sealer is not None
        records = b""
        for at in range(0, len(data) or 1, 16000):
            records += self.sealer.seal(content, data[at : at + 16000])
        return records

    def _check_finished(self, data: bytes) -> None:
        certificate = b"\x0b\0\0\x04\0\0\0\0" if self.asks_certificate else b""
        assert data.startswith(certificate)
        self._transcript.add(certificate)
        own = finished(SUITES[self.suite], self._client, self._transcript.digest())
        assert hmac.compare_digest(data[len(certificate) + 4 :], own)
        self.binding = own
        self.opener = Opener(
            SUITES[self.suite], self._schedule.traffic(b"c ap traffic", self._done)
        )


def _shares(data: bytes) -> dict[int, bytes]:
    shares = {}
    while data:
        size = int.from_bytes(data[2:4])
        shares[int.from_bytes(data[:2])] = data[4 : 4 + size]
        data = data[4 + size :]
    return shares
