"""The client's handshake as a table of states (RFC 8446 §A.1), without I/O.

Send what ``start`` gives. Hand what comes to ``receive`` and send what it gives, until
``connection`` is there; ``leftover`` is what came behind the handshake, for ``Connection.open``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import Enum, auto
from typing import ClassVar

from circumvent.errors import EchRejectedError, HandshakeError
from circumvent.wire.tls13.codes import Alert, Content, Message
from circumvent.wire.tls13.compression import decompress
from circumvent.wire.tls13.connection import Connection, Outcome
from circumvent.wire.tls13.faults import (
    Fault,
    handshake_error,
)
from circumvent.wire.tls13.greeting import Greeting
from circumvent.wire.tls13.handshake_records import HandshakeRecords, wrap_hello
from circumvent.wire.tls13.key_schedule import KeySchedule, finished
from circumvent.wire.tls13.messages import (
    Answers,
    read_answers,
    read_certificates,
    read_request,
    read_verify,
)
from circumvent.wire.tls13.proofs import Proof, PublicKey, Shown
from circumvent.wire.tls13.reader import u8, vector24
from circumvent.wire.tls13.records import Opener, Sealer
from circumvent.wire.tls13.server_hello import ServerHello, read_server_hello
from circumvent.wire.tls13.signatures import check_signature

_NO_CERTIFICATE = u8(Message.CERTIFICATE) + vector24(b"\0\0\0\0")


class RealCertificateError(HandshakeError):
    """A REALITY server showed the genuine certificate of the site that it imitates.

    It does not know us (a wrong key or short id, a wrong clock, a version that is too old), or
    somebody redirects us. The handshake is complete, and no request may be sent; ``connection``
    is there to behave as a browser does: fetch a page, then close.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            "the server did not recognize us and showed the certificate of the real site: check "
            "the public key, the short id and the clock of this machine, or somebody redirects "
            "the connection",
            stage="tls",
        )
        self.connection = connection


class State(Enum):
    """What the client waits for."""

    GREETING = auto()
    SECOND_GREETING = auto()  # after a HelloRetryRequest
    EXTENSIONS = auto()
    CERTIFICATE_OR_REQUEST = auto()
    CERTIFICATE = auto()
    SIGNATURE = auto()
    FINISHED = auto()
    DONE = auto()
    FAILED = auto()


class Client:
    """One handshake; ``proof`` decides whether the server is the one that is meant.

    ``public_proof`` is for the public name of an encrypted greeting, should the server not be able
    to open it. After an error, ``closing`` is what the server should still be sent.
    """

    __slots__ = (
        "_answers",
        "_client_secret",
        "_greeting",
        "_group",
        "_is_asked",
        "_is_resumed",
        "_key",
        "_proof",
        "_public_proof",
        "_records",
        "_schedule",
        "_server_hello",
        "_server_secret",
        "closing",
        "connection",
        "leftover",
        "state",
    )

    _schedule: KeySchedule
    _answers: Answers
    _key: PublicKey

    def __init__(self, greeting: Greeting, proof: Proof, public_proof: Proof | None = None) -> None:
        self.state = State.GREETING
        self.connection: Connection | None = None
        self.leftover = self.closing = b""
        self._greeting = greeting
        self._records = HandshakeRecords()
        self._proof, self._public_proof = proof, public_proof or proof
        self._server_hello = self._client_secret = self._server_secret = b""
        self._group = 0
        self._is_asked = self._is_resumed = False

    def start(self) -> bytes:
        """The ClientHello in its record."""
        return wrap_hello(self._greeting.say(), is_first=True)

    def receive(self, data: bytes) -> bytes:
        """Take what came; returns what is to be sent.

        Raises HandshakeError; its kinds RealCertificateError and EchRejectedError only once the
        handshake with the wrong server is done.
        """
        self._records.feed(data)
        answer = b""
        try:
            while self.state is not State.DONE:
                message = self._records.next_message()
                if message is None:
                    break
                answer += self._take(message)
        except Fault as fault:
            self.state = State.FAILED
            self.closing = answer + self._records.wrap_alert(fault.alert)
            raise handshake_error(fault) from None
        except HandshakeError:
            self.state = State.FAILED
            raise
        return self._finish(answer) if self.state is State.DONE else answer

    def _take(self, message: bytes) -> bytes:
        handler = self._TABLE.get(self.state, {}).get(message[0])
        if handler is None:
            raise Fault(
                Alert.UNEXPECTED_MESSAGE,
                f"the server sent a message ({message[0]}) where another one is due",
            )
        return handler(self, message)

    def _finish(self, answer: bytes) -> bytes:
        self.leftover += self._records.take_leftover()
        assert self.connection is not None  # noqa: S101 - for the checker
        if self._greeting.is_rejected:
            self.closing = answer + self.connection.say_alert(Alert.ECH_REQUIRED)
            self.connection, self.state = None, State.FAILED
            raise EchRejectedError(self._answers.ech_retry)
        if not self._proof.is_genuine:
            self.closing, self.state = answer, State.FAILED
            connection, self.connection = self.connection, None
            raise RealCertificateError(connection)
        return answer

    # --- the states -----------------------------------------------------------------------------

    def _take_greeting(self, message: bytes) -> bytes:
        answer = read_server_hello(message, self._greeting.session_id)
        self._records.check_boundary()
        if not answer.is_retry:
            return self._take_keys(answer, message)
        if self.state is State.SECOND_GREETING:
            raise Fault(Alert.UNEXPECTED_MESSAGE, "the server asks for a third greeting")
        self.state = State.SECOND_GREETING
        again = self._greeting.say_again(answer, message)
        return self._records.change_cipher_spec() + wrap_hello(again, is_first=False)

    def _take_keys(self, answer: ServerHello, message: bytes) -> bytes:
        self._server_hello, self._group = message, answer.group
        self._schedule, self._is_resumed = self._greeting.agree(answer, message)
        said = self._greeting.transcript.digest()
        self._client_secret = self._schedule.traffic(b"c hs traffic", said)
        self._server_secret = self._schedule.traffic(b"s hs traffic", said)
        self._records.opener = Opener(answer.suite, self._server_secret)
        self._records.sealer = Sealer(answer.suite, self._client_secret)
        self.state = State.EXTENSIONS
        return b""

    def _take_extensions(self, message: bytes) -> bytes:
        self._answers = read_answers(message, self._greeting.sent, self._greeting.alpn)
        self._greeting.transcript.add(message)
        self.state = State.FINISHED if self._is_resumed else State.CERTIFICATE_OR_REQUEST
        return b""

    def _take_request(self, message: bytes) -> bytes:
        read_request(message)
        self._greeting.transcript.add(message)
        self._is_asked = True
        self.state = State.CERTIFICATE
        return b""

    def _take_certificate(self, message: bytes) -> bytes:
        self._greeting.transcript.add(message)
        if message[0] == Message.COMPRESSED_CERTIFICATE:
            message = decompress(message, self._greeting.compressions)
        shown = Shown(read_certificates(message), self._greeting.message, self._server_hello)
        proof = self._public_proof if self._greeting.is_rejected else self._proof
        self._key = proof.check(shown)
        self.state = State.SIGNATURE
        return b""

    def _take_signature(self, message: bytes) -> bytes:
        scheme, signature = read_verify(message)
        check_signature(self._key, scheme, signature, self._greeting.transcript.digest())
        self._greeting.transcript.add(message)
        self.state = State.FINISHED
        return b""

    def _take_finished(self, message: bytes) -> bytes:
        transcript, suite = self._greeting.transcript, self._schedule.suite
        expected = _finished(self._schedule, self._server_secret, transcript.digest())
        if not hmac.compare_digest(message, expected):
            raise Fault(
                Alert.DECRYPT_ERROR,
                "the handshake was altered on the way, or the server counts in another way",
            )
        self._records.check_boundary()
        transcript.add(message)
        self._schedule.mix(b"")
        said = transcript.digest()
        opener = Opener(suite, self._schedule.traffic(b"s ap traffic", said))
        sealer = Sealer(suite, self._schedule.traffic(b"c ap traffic", said))
        sealer.limit = min(sealer.limit, self._answers.record_limit or sealer.limit)
        exporter = self._schedule.traffic(b"exp master", said)
        last, own = self._last_flight()
        self.connection = Connection(
            self._outcome(exporter, message if self._is_resumed else own), opener, sealer
        )
        self.state = State.DONE
        return last

    def _last_flight(self) -> tuple[bytes, bytes]:
        """The records of our last messages, and our Finished message."""
        transcript, certificate = self._greeting.transcript, b""
        if self._is_asked:
            certificate = _NO_CERTIFICATE
            transcript.add(certificate)
        own = _finished(self._schedule, self._client_secret, transcript.digest())
        transcript.add(own)
        last = self._records.wrap(Content.HANDSHAKE, certificate + own)
        return self._records.change_cipher_spec() + last, own

    def _outcome(self, exporter: bytes, binding: bytes) -> Outcome:
        return Outcome(
            suite=self._schedule.suite,
            alpn=self._answers.alpn,
            group=self._group,
            is_resumed=self._is_resumed,
            binding=binding[4:],
            exporter=exporter,
            resumption=self._schedule.traffic(b"res master", self._greeting.transcript.digest()),
            server_key=self._proof.key_sha256,
        )

    # --- the table ------------------------------------------------------------------------------

    _TABLE: ClassVar[dict[State, dict[int, Callable[[Client, bytes], bytes]]]] = {
        State.GREETING: {Message.SERVER_HELLO: _take_greeting},
        State.SECOND_GREETING: {Message.SERVER_HELLO: _take_greeting},
        State.EXTENSIONS: {Message.ENCRYPTED_EXTENSIONS: _take_extensions},
        State.CERTIFICATE_OR_REQUEST: {
            Message.CERTIFICATE_REQUEST: _take_request,
            Message.CERTIFICATE: _take_certificate,
            Message.COMPRESSED_CERTIFICATE: _take_certificate,
        },
        State.CERTIFICATE: {
            Message.CERTIFICATE: _take_certificate,
            Message.COMPRESSED_CERTIFICATE: _take_certificate,
        },
        State.SIGNATURE: {Message.CERTIFICATE_VERIFY: _take_signature},
        State.FINISHED: {Message.FINISHED: _take_finished},
    }


def _finished(schedule: KeySchedule, secret: bytes, transcript: bytes) -> bytes:
    return u8(Message.FINISHED) + vector24(finished(schedule.suite, secret, transcript))
