"""Base64 as links and keys hold it (RFC 4648 §4-5)."""

from __future__ import annotations

import base64

from circumvent.errors import LinkError


def decode_base64(part: str, text: str) -> bytes:
    """Decode either alphabet of RFC 4648 §4-5, with or without padding; raises LinkError."""
    try:
        raw = text.rstrip("=").translate(str.maketrans("-_", "+/")).encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except ValueError:
        raise LinkError(f"{part}: is not valid base64; copy the whole link again") from None


def encode_base64url(raw: bytes) -> str:
    """Encode with the alphabet of RFC 4648 §5, without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
