"""What TLS 1.3 between a browser and a site looks like to whoever carries it.

Vision leaves its own encryption only for that. So a load first exchanges these records, and after
them whatever it likes: nobody in between can tell.
"""

import contextlib
import ssl

HANDSHAKE, DATA = 22, 23  # RFC 8446 §5.1, the content types of records
HEADER = 5
RECORD = bytes((DATA, 3, 3, 0, 32)) + bytes(32)
_RANDOM = _ID = _SHARE = bytes(range(32))
_AES_128 = b"\x13\x01"
_TLS13 = b"\x00\x2b\x00\x02\x03\x04"  # supported_versions
_KEY_SHARE = b"\x00\x33\x00\x24\x00\x1d\x00\x20" + _SHARE  # X25519


def client_hello() -> bytes:
    """A real one, in its record."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="site.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def server_hello() -> bytes:
    """One that chooses TLS 1.3, in its record (RFC 8446 §4.1.3)."""
    extensions = _TLS13 + _KEY_SHARE
    body = b"\x03\x03" + _RANDOM + b"\x20" + _ID + _AES_128 + b"\x00"
    body += len(extensions).to_bytes(2) + extensions
    message = b"\x02" + len(body).to_bytes(3) + body
    return b"\x16\x03\x03" + len(message).to_bytes(2) + message


def record_size(head: bytes) -> int:
    """The size of the record that begins so, or 0 when it is none or too little of it came."""
    if len(head) < HEADER or head[0] not in (HANDSHAKE, DATA):
        return 0
    return HEADER + int.from_bytes(head[3:HEADER])
