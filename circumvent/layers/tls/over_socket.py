"""TLS over a TCP socket that OpenSSL drives itself.

Over memory BIOs (``over_stream``) every byte is copied twice more and each connection keeps their
buffers; OpenSSL on the socket needs neither (measured: docs/decisions/0002). Records are read
into and written from the caller's block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import cast

from circumvent.api.streams import SecureStream
from circumvent.errors import CircumventError, StreamResetError
from circumvent.layers.tls.context import (
    RECORD,
    TlsRole,
    channel_binding,
    cut_error,
    handshake_error,
    record_error,
    server_key,
)
from circumvent.net.readiness import Watch
from circumvent.net.sockets import SocketStream, drain, reset_error, send_close
from circumvent.net.tcp import TcpStream

_ALERT = 1024  # more than a close_notify record needs
_RESET = (errno.ECONNRESET, os.strerror(errno.ECONNRESET))
_CORK = getattr(socket, "TCP_CORK", None)  # Linux


class TlsStream(SocketStream, SecureStream):
    """One TLS connection; owns the socket."""

    __slots__ = ("_broken", "_end_announced", "_over", "_read", "_role", "_tls", "_write")

    def __init__(self, sock: ssl.SSLSocket, ready: Watch, role: TlsRole) -> None:
        super().__init__(sock, ready)
        self.record = RECORD
        self._tls = sock
        # Not recv_into and send, which only add calls: there is one of these per record.
        self._read = cast("Callable[[int, memoryview], int]", sock.read)
        self._write = cast("Callable[[memoryview], int]", sock.write)
        self._over = False
        self._broken: CircumventError | None = None
        self._end_announced = False
        self._role = role

    async def wait_readable(self) -> None:
        if self._watch.readable or self._over or self._tls.pending():
            return
        await self._watch.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._broken is not None:
            raise self._broken
        count, read, last = 0, self._read, len(buffer) - RECORD
        try:
            while not self._over and (not count or count <= last):
                got = read(RECORD, buffer[count:])
                count += got
                self._over = not got
        except ssl.SSLWantReadError:
            self._watch.drained()
            return count or None
        except ssl.SSLZeroReturnError:  # the peer's close_notify; raised only after ours
            self._over = True
        except (OSError, ValueError) as error:
            self._broken = self._what_broke(error)
            self._over = self._broken is None
            if self._broken is not None and not count:  # else once all before it was read
                raise self._broken from error
        return count

    def _what_broke(self, error: Exception) -> CircumventError | None:
        """None where it is an end like any other."""
        if isinstance(error, ssl.SSLEOFError):
            if _is_reset(self._tls):  # OpenSSL calls it an end as well
                return _reset("read", ConnectionResetError(*_RESET))
            return cut_error() if self._role.needs_close_notify else None
        if isinstance(error, ssl.SSLError):
            return record_error(error)
        return _reset("read", error)

    def _send(self, view: memoryview) -> int:
        """After WANT_WRITE the same bytes come again, as OpenSSL demands."""
        if self._end_announced:
            return self._send_sealed(view)
        sent = 0
        is_corked = len(view) > RECORD and self._cork(1)
        try:
            while sent < len(view):
                sent += self._write(view[sent : sent + RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except (OSError, ValueError) as error:
            raise _reset("write", error) from error
        if is_corked:
            self._cork(0)
        return sent

    def _cork(self, value: int) -> bool:
        """Let the kernel make full packets of several records: that saves it a third."""
        if _CORK is None:
            return False
        with contextlib.suppress(OSError):  # the socket is broken: the write will raise
            self._sock.setsockopt(socket.IPPROTO_TCP, _CORK, value)
        return True

    def _send_sealed(self, view: memoryview) -> int:
        """Past OpenSSL, which sealed these bytes already."""
        try:
            return socket.socket.send(self._tls, view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise reset_error("write", error) from error

    def write_eof(self) -> None:
        if not self._end_announced:
            self._end_announced = True
            with contextlib.suppress(OSError, ValueError, StreamResetError):  # the peer is gone
                self._unsent = memoryview(_close_notify(self._tls))
                self.flush()

    def channel_binding(self) -> bytes:
        return channel_binding(self._tls)

    def server_key(self) -> bytes:
        return server_key(self._tls)

    async def aclose(self) -> None:
        self._role.leave(self._tls)
        await send_close(self, self._announce_end)
        await super().aclose()

    def _announce_end(self) -> bool:
        """False while the kernel has no room for it."""
        if self._end_announced:
            return self.flush()
        try:
            self._tls.unwrap()
        except ssl.SSLWantWriteError:
            return False
        except (OSError, ValueError):  # it is said, or the peer is gone; nobody will read any more
            pass
        return True


def _close_notify(sock: ssl.SSLSocket) -> bytes:
    """A close_notify alert to be sent as it is; reading goes on.

    ``unwrap`` sends the alert but then reads, and breaks the connection when it meets data
    instead of the peer's alert. So the socket is replaced, for this one call, by one with nothing
    to read; what OpenSSL writes to that is the alert.
    """
    fd = sock.fileno()
    replacement, other_end = socket.socketpair()
    with replacement, other_end:
        replacement.setblocking(False)
        other_end.setblocking(False)
        real = os.dup(fd)
        try:
            os.dup2(replacement.fileno(), fd)
            with contextlib.suppress(ssl.SSLError):
                sock.unwrap()
            return other_end.recv(_ALERT)
        finally:
            os.dup2(real, fd)
            os.close(real)


def _reset(step: str, error: Exception) -> StreamResetError:
    return reset_error(step, error if isinstance(error, OSError) else OSError(str(error)))


async def over_socket(stream: TcpStream, role: TlsRole) -> TlsStream:
    """Shake hands on a TCP connection and take its socket over.

    Raises HandshakeError; the connection is then closed.
    """
    sock, ready = stream.detach()
    try:
        tls = _wrap(sock, role)
    except (OSError, ValueError) as error:
        ready.close()
        sock.close()
        raise handshake_error(error) from error
    established = TlsStream(tls, ready, role)
    established.route = stream.route.inside
    try:
        await _shake_hands(tls, ready)
        role.check(tls)
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLEOFError) and _is_reset(tls):
            error = ConnectionResetError(*_RESET)
        drain(tls)  # a reset would overtake the alert
        established.hang_up()
        raise handshake_error(error) from error
    except BaseException:
        established.hang_up()  # as web servers and browsers do when somebody took too long
        raise
    return established


def _wrap(sock: socket.socket, role: TlsRole) -> ssl.SSLSocket:
    return role.context.wrap_socket(
        sock,
        server_side=role.server_side,
        server_hostname=role.server_name,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
        session=role.session,
    )


async def _shake_hands(tls: ssl.SSLSocket, ready: Watch) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            ready.drained()
            await ready.wait_readable()
        except ssl.SSLWantWriteError:
            await ready.wait_writable()
        else:
            return


def _is_reset(sock: ssl.SSLSocket) -> bool:
    """Whether a reset is what OpenSSL reports as the end of file: then nobody is connected."""
    try:
        sock.getpeername()
    except OSError:
        return True
    return False
