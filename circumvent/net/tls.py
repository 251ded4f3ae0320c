"""TLS over a TCP socket that OpenSSL drives itself.

Over memory BIOs every byte is copied twice more and each connection keeps 32 KiB; OpenSSL on
the socket needs neither (measured: docs/decisions/0002). Records are read into and written
from the caller's block. Another engine takes the place of TlsClient.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from circumvent.api.contracts import TlsOptions
from circumvent.api.streams import ByteStream, PeekStream
from circumvent.errors import HandshakeError, ProtocolError, StreamResetError
from circumvent.net.readiness import Watch
from circumvent.net.sockets import SocketStream, reset_error
from circumvent.net.tcp import TcpStream

RECORD = 16 * 1024  # RFC 8446 §5.1: the largest plaintext of one record
_SESSIONS = 64  # servers whose last session is kept; a few KiB each
_ALERT = 1024  # more than a close_notify record needs
_RESET = (errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class TlsStream(SocketStream):
    """One TLS connection; owns the socket."""

    __slots__ = ("_goodbye_said", "_on_close", "_over", "_read", "_tls", "_write")

    def __init__(self, sock: ssl.SSLSocket, ready: Watch, on_close: Callable[[], None]) -> None:
        super().__init__(sock, ready)
        self.record = RECORD
        self._tls = sock
        # Not recv_into and send, which only add calls: there is one of these per record.
        self._read = cast("Callable[[int, memoryview], int]", sock.read)
        self._write = cast("Callable[[memoryview], int]", sock.write)
        self._over = False
        self._goodbye_said = False
        self._on_close = on_close

    async def wait_readable(self) -> None:
        if self._watch.readable or self._over or self._tls.pending():
            return
        await self._watch.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        count = 0
        try:
            while not self._over and (not count or len(buffer) - count >= RECORD):
                got = self._read(RECORD, buffer[count:])
                count += got
                self._over = not got
        except ssl.SSLWantReadError:
            self._watch.drained()
            return count or None
        except ssl.SSLEOFError as error:  # no goodbye: many servers end so, but resets do too
            if _is_reset(self._tls):
                raise _reset("read", ConnectionResetError(*_RESET)) from error
            self._over = True
        except ssl.SSLZeroReturnError:  # the peer's goodbye; raised only after our own
            self._over = True
        except ssl.SSLError as error:
            message = f"TLS: {error.reason or 'the server sent what is not allowed'}"
            raise ProtocolError(message, stage="read") from error
        except (OSError, ValueError) as error:
            raise _reset("read", error) from error
        return count

    def _send(self, view: memoryview) -> int:
        """After WANT_WRITE the same bytes come again, as OpenSSL demands."""
        if self._goodbye_said:
            return self._send_sealed(view)
        sent = 0
        try:
            while sent < len(view):
                sent += self._write(view[sent : sent + RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except (OSError, ValueError) as error:
            raise _reset("write", error) from error
        return sent

    def _send_sealed(self, view: memoryview) -> int:
        """Past OpenSSL, which sealed these bytes already."""
        try:
            return socket.socket.send(self._tls, view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise reset_error("write", error) from error

    def write_eof(self) -> None:
        if not self._goodbye_said:
            self._goodbye_said = True
            with contextlib.suppress(OSError, ValueError, StreamResetError):  # the peer is gone
                self._unsent = memoryview(_close_notify(self._tls))
                self.flush()

    async def aclose(self) -> None:
        self._on_close()
        if not self._goodbye_said:
            with contextlib.suppress(OSError, ValueError):  # nobody will read any more
                self._tls.unwrap()
        self._close()


def _close_notify(sock: ssl.SSLSocket) -> bytes:
    """A close_notify alert to be sent as it is; reading goes on.

    ``unwrap`` sends the alert but then reads, and breaks the connection when it meets data
    instead of the peer's alert. So it runs on a stand-in with nothing to read, and what comes
    out of that is the alert.
    """
    fd = sock.fileno()
    real = os.dup(fd)
    stand_in, outlet = socket.socketpair()
    try:
        stand_in.setblocking(False)
        outlet.setblocking(False)
        os.dup2(stand_in.fileno(), fd)
        try:
            with contextlib.suppress(ssl.SSLError):
                sock.unwrap()
            return outlet.recv(_ALERT)
        finally:
            os.dup2(real, fd)
    finally:
        os.close(real)
        stand_in.close()
        outlet.close()


def _reset(step: str, error: Exception) -> Exception:
    return reset_error(step, error if isinstance(error, OSError) else OSError(str(error)))


class TlsClient:
    """Starts TLS with the standard library's engine; keeps contexts and sessions."""

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._contexts: dict[tuple[bool, tuple[str, ...]], ssl.SSLContext] = {}
        self._sessions: OrderedDict[TlsOptions, ssl.SSLSession] = OrderedDict()

    async def start(self, stream: PeekStream, options: TlsOptions) -> ByteStream:
        """Shake hands on a TCP connection and take it over.

        Raises HandshakeError; the connection is then closed.
        """
        if not isinstance(stream, TcpStream):
            message = "TLS needs a TCP connection below it"
            raise HandshakeError(message, stage="tls")
        sock, ready = stream.detach()
        try:
            tls = self._wrap(sock, options)
        except (OSError, ValueError) as error:
            ready.close()
            sock.close()
            raise _failed(error) from error
        established = TlsStream(tls, ready, lambda: self._remember(tls, options))
        try:
            await _shake_hands(tls, ready)
            _check_pins(tls, options)
        except (OSError, ValueError) as error:
            was_reset = isinstance(error, ssl.SSLEOFError) and _is_reset(tls)
            established.abort()
            raise _failed(error, was_reset=was_reset) from error
        except BaseException:
            established.abort()
            raise
        return established

    def forget(self) -> None:
        """Drop all sessions."""
        self._sessions.clear()

    def _wrap(self, sock: socket.socket, options: TlsOptions) -> ssl.SSLSocket:
        return self._context(options).wrap_socket(
            sock,
            server_hostname=options.server_name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            session=self._sessions.get(options),
        )

    def _context(self, options: TlsOptions) -> ssl.SSLContext:
        pinned = bool(options.certificate_sha256 or options.spki_sha256)
        verify = options.verify and not pinned
        context = self._contexts.get((verify, options.alpn))
        if context is None:
            context = _make_context(verify=verify, ca_file=self._ca_file)
            if options.alpn:
                context.set_alpn_protocols(list(options.alpn))
            self._contexts[verify, options.alpn] = context
        return context

    def _remember(self, tls: ssl.SSLSocket, options: TlsOptions) -> None:
        """Keep the session, so that the next connection saves a certificate exchange.

        One serves many connections until it is half as old as it may get: the standard library
        copies a session whenever it is read, which costs as much as what it saves.
        """
        known = self._sessions.get(options)
        if known is not None and time.time() < known.time + known.timeout / 2:
            return
        session = tls.session
        if session is not None and session.has_ticket:
            self._sessions[options] = session
            self._sessions.move_to_end(options)
            if len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)


def _make_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if verify:
        context.load_default_certs()
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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


def _check_pins(tls: ssl.SSLSocket, options: TlsOptions) -> None:
    if not (options.certificate_sha256 or options.spki_sha256):
        return
    certificate = tls.getpeercert(binary_form=True) or b""
    if hashlib.sha256(certificate).digest() in options.certificate_sha256:
        return
    if options.spki_sha256 and _spki_sha256(certificate) in options.spki_sha256:
        return
    message = "the server's certificate is not the pinned one"
    raise HandshakeError(message, stage="tls")


def _spki_sha256(certificate: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only for pins
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - only for pins

    key = load_der_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def _is_reset(sock: ssl.SSLSocket) -> bool:
    """Whether a reset is what OpenSSL reports as the end of file: then nobody is connected."""
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


def _failed(error: Exception, *, was_reset: bool = False) -> HandshakeError:
    code = None  # the errno of an SSLError is not the system's
    if was_reset:
        code, text = _RESET
        message = f"TLS handshake failed: {text}"
    elif isinstance(error, ssl.SSLCertVerificationError):
        message = f"the server's certificate is not valid: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        message = f"TLS handshake failed: {error.reason or 'the connection was cut'}"
    else:
        message = f"TLS handshake failed: {error}"
        code = error.errno if isinstance(error, OSError) else None
    return HandshakeError(message, stage="tls", errno=code)
