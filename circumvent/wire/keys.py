"""Keys as one line of text: raw bytes in base64url (RFC 4648 §5), without padding."""

from __future__ import annotations

from circumvent.errors import LinkError
from circumvent.wire.links import decode_base64, encode_base64url

KEY_SIZE = 32  # bytes: raw Ed25519 (RFC 8032 §5.1.5) and X25519 (RFC 7748 §5) keys


def parse_key(part: str, text: str) -> bytes:
    """The raw key in ``text``; raises LinkError that names ``part`` and repeats nothing."""
    text = text.strip()
    key = decode_base64(part, text)
    if len(key) != KEY_SIZE or encode_base64url(key) != text.rstrip("="):
        raise LinkError(f"{part}: is not a key of {KEY_SIZE} bytes; copy the whole of it again")
    return key


def format_key(key: bytes) -> str:
    """The key as text; ``parse_key`` gives the same bytes back."""
    return encode_base64url(key)
