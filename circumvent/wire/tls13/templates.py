"""What each browser says in its ClientHello: data, so that a bundle may bring newer ones.

Chrome and Firefox were read off the real browsers (Debian's Chromium 156 and Firefox ESR 153, on
2026-11-27); a test holds each against a capture. Safari is from published fingerprints of Safari
26 on macOS and iOS (JA3 and JA4 agree); nobody here has seen its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from circumvent.wire.tls13.codes import Extension, Group

GREASE = 0x0A0A  # RFC 8701: stands for a value that is drawn anew for each connection
_X25519, _HYBRID, _P256, _P384 = Group.X25519, Group.X25519_MLKEM768, Group.P256, Group.P384
_P521 = Group.P521
_FFDHE2048, _FFDHE3072 = 0x0100, 0x0101  # Firefox offers them, and no server wants them


@dataclass(frozen=True, slots=True)
class EchGrease:
    """The form of an ECH extension that nobody can open (RFC 9849 §6.2).

    ``aeads`` and ``payloads`` (in bytes, with the tag) are what one is drawn from.
    """

    aeads: tuple[int, ...]
    payloads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A browser's ClientHello.

    All lists are in the order in which they are sent; GREASE stands where a value is drawn.
    ``extensions`` are numbers, ``fixed`` has the bodies of those that never change. ``permuted``:
    extensions come in a new order each time, but for GREASE at both ends. ``alps``: protocols
    for which settings are exchanged. ``compressions``: of certificates (RFC 8879 §7.3).
    """

    name: str
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    groups: tuple[int, ...]
    shares: tuple[int, ...]
    signatures: tuple[int, ...]
    versions: tuple[int, ...]
    fixed: tuple[tuple[int, bytes], ...]
    compressions: tuple[int, ...] = ()
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    alps: tuple[str, ...] = ()
    ech_grease: EchGrease | None = None
    permuted: bool = False
    same_x25519: bool = False


# What all of them send alike: status_request for OCSP, uncompressed points, no renegotiation,
# PSK only with a key exchange, signed_certificate_timestamp, extended_master_secret.
_COMMON = (
    (0x0005, b"\x01\0\0\0\0"),
    (0x000B, b"\x01\0"),
    (0xFF01, b"\0"),
    (Extension.PSK_MODES, b"\x01\x01"),
    (0x0012, b""),
    (0x0017, b""),
    (0x0023, b""),  # session_ticket, of TLS 1.2
)

_ROOT_PROGRAM = bytes.fromhex(
    "00b80582df1302010582df1302060582df13020d0582df13020e0582df13020f0582df1302120582df1302130582"
    "df13021408839a648c9b2d010708839a648c9b2d010808839a648c9b2d010908839a648c9b2d010a08839a648c9b"
    "2d010b08839a648c9b2d010c08839a648c9b2d010d08839a648c9b2d011208839a648c9b2d011304d679090104d6"
    "79090404d679090504d679090604d679090704d679090804d679090a04d679090b04d679090c04d679090d04d679"
    "090f"
)
_TRUST_ANCHORS = 0xCA34  # draft-ietf-tls-trust-anchor-ids: which authorities the browser trusts

CHROME = Template(
    name="chrome",
    ciphers=(
        *(GREASE, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030),
        *(0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035),
    ),
    extensions=(
        *(GREASE, 0x0000, 0x0017, 0xFF01, 0x000A, 0x000B, 0x0023, 0x0010, 0x0005, 0x000D),
        *(0x0012, 0x0033, 0x002D, 0x002B, 0x001B, 0x44CD, 0xFE0D, _TRUST_ANCHORS, GREASE),
    ),
    groups=(GREASE, _HYBRID, _X25519, _P256, _P384),
    shares=(GREASE, _HYBRID, _X25519),
    signatures=(
        *(GREASE, 0x0904, 0x0905, 0x0906),
        *(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
    ),
    versions=(GREASE, 0x0304, 0x0303),
    fixed=(*_COMMON, (_TRUST_ANCHORS, _ROOT_PROGRAM)),
    compressions=(2,),
    alps=("h2",),
    ech_grease=EchGrease(aeads=(1,), payloads=(144, 176, 208, 240)),
    permuted=True,
)

FIREFOX = Template(
    name="firefox",
    ciphers=(
        *(0x1301, 0x1303, 0x1302, 0xC02B, 0xC02F, 0xCCA9, 0xCCA8, 0xC02C, 0xC030),
        *(0xC00A, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035),
    ),
    extensions=(
        *(0x0000, 0x0017, 0xFF01, 0x000A, 0x000B, 0x0023, 0x0010, 0x0005, 0x0022, 0x0012),
        *(0x0033, 0x002B, 0x000D, 0x002D, 0x001C, 0x001B, 0xFE0D),
    ),
    groups=(_HYBRID, _X25519, _P256, _P384, _P521, _FFDHE2048, _FFDHE3072),
    shares=(_HYBRID, _X25519, _P256),
    signatures=(
        *(0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806),
        *(0x0401, 0x0501, 0x0601, 0x0203, 0x0201),
    ),
    versions=(0x0304, 0x0303),
    fixed=(
        *_COMMON,
        (0x0022, bytes.fromhex("00080403050306030203")),  # delegated_credential: RFC 9345
        (0x001C, b"\x40\x01"),  # record_size_limit: RFC 8449
    ),
    compressions=(1, 2, 3),
    ech_grease=EchGrease(aeads=(1, 3), payloads=(239,)),
    same_x25519=True,
)

SAFARI = Template(
    name="safari",
    ciphers=(
        *(GREASE, 0x1302, 0x1303, 0x1301, 0xC02C, 0xC02B, 0xCCA9, 0xC030, 0xC02F, 0xCCA8),
        *(0xC00A, 0xC009, 0xC014, 0xC013, 0x009D, 0x009C, 0x0035, 0x002F),
        *(0xC008, 0xC012, 0x000A),
    ),
    extensions=(
        *(GREASE, 0x0000, 0x0017, 0xFF01, 0x000A, 0x000B, 0x0010, 0x0005, 0x000D, 0x0012),
        *(0x0033, 0x002D, 0x002B, 0x001B, GREASE),
    ),
    groups=(GREASE, _HYBRID, _X25519, _P256, _P384, _P521),
    shares=(GREASE, _HYBRID, _X25519),
    signatures=(*(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0805, 0x0501, 0x0806, 0x0601, 0x0201),),
    versions=(GREASE, 0x0304, 0x0303),
    fixed=_COMMON,
    compressions=(1,),
)

# Chrome on a phone is the same library; Edge has authorities of its own, so it names none.
EDGE = replace(
    CHROME,
    name="edge",
    extensions=tuple(code for code in CHROME.extensions if code != _TRUST_ANCHORS),
)
TEMPLATES = {
    "chrome": CHROME,
    "firefox": FIREFOX,
    "safari": SAFARI,
    "ios": replace(SAFARI, name="ios"),
    "android": replace(CHROME, name="android"),
    "edge": EDGE,
}
