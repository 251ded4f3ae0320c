"""What goes wrong in TLS: the fault that was found, the alert for the peer, the error for us.

OldTlsError, PinError, EchRejectedError and the client's RealCertificateError are HandshakeErrors
that a caller treats in its own way.
"""

from __future__ import annotations

from circumvent.errors import HandshakeError, OldTlsError, PinError, ProtocolError, StreamResetError
from circumvent.wire.tls13.codes import Alert

_FATAL = 2  # RFC 8446 §6: the level; every alert but two is fatal whatever it says
_WARNING = 1
_ORDERLY = (Alert.CLOSE_NOTIFY, Alert.USER_CANCELED)

_KINDS = {Alert.PROTOCOL_VERSION: OldTlsError, Alert.CERTIFICATE_UNKNOWN: PinError}
_MEANINGS = {
    Alert.UNEXPECTED_MESSAGE: "it did not expect what we sent",
    Alert.BAD_RECORD_MAC: "what arrived there was altered on the way",
    Alert.RECORD_OVERFLOW: "a record was too long for it",
    Alert.HANDSHAKE_FAILURE: "it accepts nothing of what we offer",
    Alert.BAD_CERTIFICATE: "it wants another certificate from us",
    Alert.ILLEGAL_PARAMETER: "it does not accept a value that we sent",
    Alert.ACCESS_DENIED: "it does not let us in",
    Alert.DECODE_ERROR: "it could not read what we sent",
    Alert.DECRYPT_ERROR: "a check of what we sent failed there",
    Alert.PROTOCOL_VERSION: "it speaks no TLS 1.3",
    Alert.INSUFFICIENT_SECURITY: "it wants stronger ciphers than we offer",
    Alert.INTERNAL_ERROR: "it has a trouble of its own",
    Alert.MISSING_EXTENSION: "it misses an extension in our greeting",
    Alert.UNRECOGNIZED_NAME: "it does not serve this name: check the server name (sni)",
    Alert.CERTIFICATE_REQUIRED: "it wants a certificate from us, and we have none",
    Alert.NO_APPLICATION_PROTOCOL: "it speaks none of the protocols that we offer: check alpn",
    Alert.ECH_REQUIRED: "it wants an encrypted greeting (ECH)",
}


class Fault(Exception):  # noqa: N818 - it never leaves the package
    """Something is wrong with what the peer sent; ``alert`` is what it is told."""

    def __init__(self, alert: Alert, what: str) -> None:
        super().__init__(what)
        self.alert = alert


def handshake_error(fault: Fault) -> HandshakeError:
    """What a fault means to a user before the handshake is done."""
    kind = _KINDS.get(fault.alert, HandshakeError)
    return kind(f"TLS handshake failed: {fault}", stage="tls")


def protocol_error(fault: Fault) -> ProtocolError:
    """What a fault means to a user after the handshake."""
    return ProtocolError(f"TLS: {fault}", stage="read")


def alert_bytes(alert: Alert) -> bytes:
    """An alert as it stands in its record."""
    return bytes((_WARNING if alert in _ORDERLY else _FATAL, alert))


def describe(code: int) -> str:
    """An alert of the peer in words."""
    try:
        alert = Alert(code)
    except ValueError:
        return f"the server gave up for a reason that we do not know (alert {code})"
    name = alert.name.lower()
    meaning = _MEANINGS.get(alert)
    return f"the server gave up: {meaning} ({name})" if meaning else f"the server gave up: {name}"


def refused(code: int) -> HandshakeError:
    """The peer's alert ended the handshake."""
    return HandshakeError(f"TLS handshake failed: {describe(code)}", stage="tls")


def reset(code: int) -> StreamResetError:
    """The peer's alert ended the connection."""
    return StreamResetError(f"connection lost: TLS: {describe(code)}", stage="read")
