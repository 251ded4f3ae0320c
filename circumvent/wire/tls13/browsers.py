"""All templates, by the names that links have for them.

``captured`` was read off real browsers, and a test holds it against the one on the machine. Safari
is from published fingerprints of Safari 26 on macOS and iOS (JA3 and JA4 agree); nobody here has
seen its bytes.
"""

from __future__ import annotations

from dataclasses import replace

from circumvent.wire.tls13.captured import CHROME, FIREFOX
from circumvent.wire.tls13.codes import Extension, Group
from circumvent.wire.tls13.templates import GREASE, Template

_X25519, _HYBRID, _P256, _P384 = Group.X25519, Group.X25519_MLKEM768, Group.P256, Group.P384
_TRUST_ANCHORS = 0xCA34  # draft-ietf-tls-trust-anchor-ids: which authorities the browser trusts

# What browsers send alike: status_request for OCSP, uncompressed points, no renegotiation,
# PSK only with a key exchange, signed_certificate_timestamp, extended_master_secret.
_FIXED = (
    (0x0005, b"\x01\0\0\0\0"),
    (0x000B, b"\x01\0"),
    (0xFF01, b"\0"),
    (Extension.PSK_MODES, b"\x01\x01"),
    (0x0012, b""),
    (0x0017, b""),
    (0x0023, b""),  # session_ticket, of TLS 1.2
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
    groups=(GREASE, _HYBRID, _X25519, _P256, _P384, Group.P521),
    shares=(GREASE, _HYBRID, _X25519),
    signatures=(*(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0805, 0x0501, 0x0806, 0x0601, 0x0201),),
    versions=(GREASE, 0x0304, 0x0303),
    fixed=_FIXED,
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
