"""TLS over any stream, by OpenSSL between two memory BIOs.

A BIO keeps the largest size that it ever had, so both are fed and drained in small pieces.
All works in the caller's block: what the base brings lands far enough behind the plaintext that
they never meet, what is sealed starts far enough in front of it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

from circumvent.api.layer import LayerStream
from circumvent.api.streams import ByteStream, SecureStream
from circumvent.errors import ProtocolError, StreamResetError
from circumvent.layers.backlog import Backlog
from circumvent.layers.exchange import receive_flight, send_flight
from circumvent.layers.tls.context import (
    RECORD,
    TlsRole,
    channel_binding,
    cut_error,
    handshake_error,
    record_error,
    server_key,
)
from circumvent.memory import LARGEST
from circumvent.net.readiness import NOW
from circumvent.net.sockets import send_close

# A record adds 22 bytes in TLS 1.3 and at most 85 in TLS 1.2; a key update may come along.
EXPANSION = 128
# A BIO keeps four thirds of the most that it ever held, and there are two. Whole records would cost
# an idle connection 28 KiB more, and a busy one a fifth less CPU; three of these make one.
PIECE = 5632
_RECORDS = LARGEST // PIECE + 1  # in the largest block
# More than OpenSSL keeps of a record that came in part (RFC 5246 §6.2.3: 2^14 + 2048 + 5): so
# all that a read brings can be opened at once, and nothing waits inside of OpenSSL.
_GAP = RECORD + 2048 + 5


class InnerTlsStream(LayerStream, SecureStream):
    """One TLS connection inside another stream, which it owns."""

    __slots__ = (
        "_backlog",
        "_broken",
        "_end_announced",
        "_incoming",
        "_outgoing",
        "_over",
        "_read",
        "_role",
        "_tls",
    )

    def __init__(self, base: ByteStream, role: TlsRole) -> None:
        super().__init__(base)
        self.record = _GAP + base.record
        self.overhead = _GAP + base.overhead + _RECORDS * EXPANSION
        self.headroom = base.headroom + _RECORDS * EXPANSION
        self._role = role
        self._backlog = Backlog(base)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = role.context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=role.server_side,
            server_hostname=role.server_name,
            session=role.session,
        )
        self._read = cast("Callable[[int, memoryview], int]", self._tls.read)
        self._over = False
        self._broken: ProtocolError | None = None
        self._end_announced = False

    async def shake_hands(self) -> None:
        """Raises HandshakeError, StreamResetError, ProtocolError, ssl.SSLError."""
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            await send_flight(self.base, self._outgoing.read())
            if not done:
                self._feed(await receive_flight(self.base))
        self._role.check(self._tls)

    def _feed(self, wire: bytes | memoryview) -> None:
        if wire:
            self._incoming.write(wire)
        else:
            self._incoming.write_eof()

    def channel_binding(self) -> bytes:
        return channel_binding(self._tls)

    def server_key(self) -> bytes:
        return server_key(self._tls)

    def wait_readable(self) -> Awaitable[None]:
        if self._over or self._broken is not None or self._incoming.pending:
            return NOW
        return self.base.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        count = self._open(buffer, 0)  # what came together with the handshake
        if count or self._over:
            return count
        self._check()
        wire = buffer[_GAP:]
        size = self.base.read_into(wire)
        if size is None:
            return None
        if not size:
            if self._role.needs_close_notify:
                raise cut_error()
            self._over = True
            return 0
        for at in range(0, size, PIECE):
            self._feed(wire[at : min(at + PIECE, size)])
            count = self._open(buffer, count)
        if not count:
            self._check()
        return count if count or self._over else None

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _open(self, buffer: memoryview, count: int) -> int:
        """Put all that is whole behind the ``count`` bytes that are there; the new count."""
        try:
            while self._incoming.pending and not (self._over or self._broken):
                size = self._read(RECORD, buffer[count:])
                count += size
                self._over = not size
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the peer's close_notify
            self._over = True
        except ssl.SSLError as error:  # raised once all that came before was read
            self._broken = record_error(error)
        return count

    def room(self) -> int:
        room = self._backlog.room()
        sealed_more = EXPANSION * (room // PIECE + 1)
        return max(room - sealed_more, min(room, 1))

    def write(self, block: memoryview, start: int, end: int) -> int:
        size = min(end - start, self.room())
        if not size:
            return 0
        end = start + size
        at = first = start - EXPANSION * -(-size // PIECE)
        for piece in range(start, end, PIECE):
            stop = min(piece + PIECE, end)
            self._seal(block[piece:stop])
            sealed = self._outgoing.read(stop - at)
            block[at : at + len(sealed)] = sealed
            at += len(sealed)
        self._backlog.pass_on(block, first, at)
        self._backlog.add(self._outgoing.read())  # nothing, unless OpenSSL had more to say
        return size

    def _seal(self, plain: memoryview) -> None:
        try:
            self._tls.write(plain)
        except ssl.SSLError as error:
            raise StreamResetError(
                f"connection lost: TLS: {error.reason or 'the peer broke it off'}", stage="write"
            ) from error

    def flush(self) -> bool:
        return self._backlog.flush()

    def write_eof(self) -> None:
        if self._end_announced:
            return
        self._end_announced = True
        self._announce_end()
        with contextlib.suppress(StreamResetError):  # the peer may be gone already
            self.flush()

    def _announce_end(self) -> None:
        """``unwrap`` also reads, and breaks the connection when it meets data: hide them."""
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        if unread:
            self._feed(unread)
        self._backlog.add(self._outgoing.read())

    async def aclose(self) -> None:
        self._role.leave(self._tls)
        self.write_eof()
        await send_close(self, self.flush)
        await self.base.aclose()


async def over_stream(stream: ByteStream, role: TlsRole) -> InnerTlsStream:
    """Shake hands inside ``stream`` and own it.

    Raises HandshakeError; the stream is then aborted.
    """
    try:
        inner = InnerTlsStream(stream, role)
        await inner.shake_hands()
    except BaseException as error:
        stream.abort()
        if isinstance(error, (StreamResetError, ProtocolError, OSError, ValueError)):
            raise handshake_error(error) from error
        raise
    return inner
