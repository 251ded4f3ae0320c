"""Far ends of the streams under test, written from the specifications with other libraries."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
from collections.abc import Callable, Generator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from circumvent.testing.far_end import Codec

MAX_PAYLOAD = 0x3FFF
TAG = 16
AEADS: dict[str, tuple[int, Callable[[bytes], AESGCM | ChaCha20Poly1305]]] = {
    "aes-128-gcm": (16, AESGCM),
    "aes-256-gcm": (32, AESGCM),
    "chacha20-ietf-poly1305": (32, ChaCha20Poly1305),
}


def password_key(password: bytes, size: int) -> bytes:
    """SIP004's key of a password."""
    first = hashlib.md5(password).digest()
    return (first + hashlib.md5(first + password).digest())[:size]


class Direction:
    """One direction of a Shadowsocks connection: the cipher and its counter."""

    def __init__(self, method: str, key: bytes, salt: bytes) -> None:
        size, make = AEADS[method]
        kdf = HKDF(hashes.SHA1(), size, salt, b"ss-subkey")
        self._aead = make(kdf.derive(key))
        self._count = 0

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._count - 1).to_bytes(12, "little")

    def encrypt(self, data: bytes) -> bytes:
        return self._aead.encrypt(self._nonce(), data, None)

    def decrypt(self, data: bytes) -> bytes:
        return self._aead.decrypt(self._nonce(), data, None)


class ShadowsocksCodec(Codec):
    """SIP004, records of at most ``largest`` bytes."""

    def __init__(self, method: str, key: bytes, largest: int = MAX_PAYLOAD) -> None:
        self._method, self._key, self._largest = method, key, largest
        self._salt_size = AEADS[method][0]
        self._out: Direction | None = None
        self._in: Direction | None = None
        self._wire = b""
        self._length: int | None = None

    def seal(self, data: bytes) -> bytes:
        pieces = []
        if self._out is None:
            salt = os.urandom(self._salt_size)
            self._out = Direction(self._method, self._key, salt)
            pieces.append(salt)
        for at in range(0, len(data), self._largest):
            payload = data[at : at + self._largest]
            pieces += [self._out.encrypt(len(payload).to_bytes(2)), self._out.encrypt(payload)]
        return b"".join(pieces)

    def open(self, wire: bytes) -> bytes:
        self._wire += wire
        if self._in is None:
            if len(self._wire) < self._salt_size:
                return b""
            self._in = Direction(self._method, self._key, self._take(self._salt_size))
        plain = b""
        while True:
            if self._length is None:
                if len(self._wire) < 2 + TAG:
                    return plain
                self._length = int.from_bytes(self._in.decrypt(self._take(2 + TAG)))
                assert 0 < self._length <= MAX_PAYLOAD
            if len(self._wire) < self._length + TAG:
                return plain
            plain += self._in.decrypt(self._take(self._length + TAG))
            self._length = None

    def _take(self, size: int) -> bytes:
        taken, self._wire = self._wire[:size], self._wire[size:]
        return taken


class TlsCodec(Codec):
    """TLS on the standard library's object without input and output: a server, or a client."""

    ready = False
    ends_the_wire = False

    def __init__(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._in, self._out, server_side=server_name is None, server_hostname=server_name
        )

    def begin(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def seal(self, data: bytes) -> bytes:
        if data:
            self.tls.write(data)
        return self._out.read()

    def open(self, wire: bytes) -> bytes:
        if wire:
            self._in.write(wire)
        else:
            self._in.write_eof()
        plain = b""
        try:
            if not self.ready:
                self.tls.do_handshake()
                self.ready = True
            while piece := self.tls.read(MAX_PAYLOAD):
                plain += piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return plain

    def replies(self) -> bytes:
        return self._out.read()

    def announce_end(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):  # the answer may come, or not
            self.tls.unwrap()
        return self._out.read()


class WebSocketCodec(Codec):
    """Frames by the ``websockets`` library; the end of one direction leaves the other one open."""

    ends_the_wire = False

    def __init__(self, *, is_client: bool, largest: int = 100_000) -> None:
        self.pongs = 0
        self._is_client = is_client
        self._largest = largest
        self._reader = StreamReader()
        self._parser = self._parse()
        self._plain = b""
        self._replies = b""
        next(self._parser)

    def _parse(self) -> Generator[None]:
        while True:
            frame = yield from Frame.parse(self._reader.read_exact, mask=not self._is_client)
            if frame.opcode is Opcode.CLOSE:
                self.ended = True
            elif frame.opcode is Opcode.PONG:
                self.pongs += 1
            else:
                assert frame.opcode is Opcode.BINARY
                self._plain += frame.data

    def _frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
        return Frame(opcode, data, fin).serialize(mask=self._is_client)

    def seal(self, data: bytes) -> bytes:
        """One message in two fragments, a ping between them: any server on the way may do that."""
        pieces = [data[at : at + self._largest] for at in range(0, len(data), self._largest)]
        return b"".join(
            self._frame(Opcode.BINARY, piece[:7], fin=False)
            + self._frame(Opcode.PONG, b"not asked for")
            + self._frame(Opcode.CONT, piece[7:])
            for piece in pieces
        )

    def open(self, wire: bytes) -> bytes:
        if wire:
            self._reader.feed_data(wire)
            next(self._parser)
        plain, self._plain = self._plain, b""
        return plain

    def announce_end(self) -> bytes:
        return self._frame(Opcode.CLOSE, Close(1000, "").serialize())


class NestedCodec(Codec):
    """``inner`` inside of ``outer``, whose handshake is done."""

    ends_the_wire = False

    def __init__(self, inner: Codec, outer: Codec) -> None:
        self._inner = inner
        self._outer = outer

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self._inner.ready

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._inner.ended

    def begin(self) -> bytes:
        return self._seal(self._inner.begin())

    def seal(self, data: bytes) -> bytes:
        return self._seal(self._inner.seal(data))

    def open(self, wire: bytes) -> bytes:
        plain = self._outer.open(wire)
        return self._inner.open(plain) if plain or not wire else b""

    def replies(self) -> bytes:
        return self._seal(self._inner.replies()) + self._outer.replies()

    def announce_end(self) -> bytes:
        return self._seal(self._inner.announce_end())

    def _seal(self, data: bytes) -> bytes:
        return self._outer.seal(data) if data else b""


class WithinCodec(NestedCodec):
    """``inner`` announces no end: that of ``outer`` is its own."""

    def __init__(self, inner: Codec, outer: Codec) -> None:
        super().__init__(inner, outer)
        self.ends_the_wire = outer.ends_the_wire

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._outer.ended

    def announce_end(self) -> bytes:
        return self._outer.announce_end()


class HeadedCodec(Codec):
    """Expects ``request`` in front of what it opens, puts ``response`` before what it seals."""

    def __init__(self, inner: Codec, request: bytes = b"", response: bytes = b"") -> None:
        self._inner = inner
        self._request = request
        self._response = response
        self.ends_the_wire = inner.ends_the_wire

    @property
    def ready(self) -> bool:  # type: ignore[override]
        return self._inner.ready

    @property
    def ended(self) -> bool:  # type: ignore[override]
        return self._inner.ended

    def seal(self, data: bytes) -> bytes:
        response, self._response = self._response, b""
        return self._inner.seal(response + data)

    def open(self, wire: bytes) -> bytes:
        plain = self._inner.open(wire)
        size = min(len(self._request), len(plain))
        assert plain[:size] == self._request[:size]
        self._request = self._request[size:]
        return plain[size:]

    def replies(self) -> bytes:
        return self._inner.replies()

    def announce_end(self) -> bytes:
        return self._inner.announce_end()
