"""The numbers of TLS 1.3 and their names (RFC 8446, and what came later)."""

from __future__ import annotations

from enum import IntEnum

TLS12, TLS13 = 0x0303, 0x0304
FIRST_RECORD_VERSION = 0x0301  # RFC 8446 §5.1: of the first ClientHello, for old middleboxes

MAX_PLAINTEXT = 1 << 14  # RFC 8446 §5.1
MAX_SEALED = MAX_PLAINTEXT + 256  # RFC 8446 §5.2: of the part behind the record's header
RECORD_HEADER = 5
MESSAGE_HEADER = 4
TAG = 16

# RFC 8446 §4.1.3: this random says that the message is a HelloRetryRequest.
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
# RFC 8446 §4.1.3: a server that knows TLS 1.3 ends its random so when it speaks an older version.
DOWNGRADES = (b"DOWNGRD\x01", b"DOWNGRD\x00")


class Content(IntEnum):
    """What a record holds: RFC 8446 §5.1."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    DATA = 23


class Message(IntEnum):
    """The messages of a handshake: RFC 8446 §4, RFC 8879 §4."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25
    MESSAGE_HASH = 254


class Extension(IntEnum):
    """Extensions that have a meaning to us; the others are bytes in a template."""

    SERVER_NAME = 0x0000
    GROUPS = 0x000A
    SIGNATURES = 0x000D
    ALPN = 0x0010
    COMPRESSION = 0x001B
    PRE_SHARED_KEY = 0x0029
    VERSIONS = 0x002B
    COOKIE = 0x002C
    PSK_MODES = 0x002D
    KEY_SHARE = 0x0033
    ALPS = 0x44CD
    ECH_OUTER = 0xFD00  # RFC 9849 §5.1: only inside of an encoded inner hello
    ECH = 0xFE0D


class Group(IntEnum):
    """Ways to agree on a secret: RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem."""

    P256 = 0x0017
    P384 = 0x0018
    P521 = 0x0019
    X25519 = 0x001D
    X25519_MLKEM768 = 0x11EC


class Alert(IntEnum):
    """Why a peer gives up: RFC 8446 §6, RFC 9849 §11.2."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120
    ECH_REQUIRED = 121
