"""A user's credential: proves the token to a relay, on one secure channel only."""

from __future__ import annotations

import hashlib
import hmac

TOKEN_SIZE = 16  # bytes, random
USER_ID_SIZE = 8
CREDENTIAL_SIZE = USER_ID_SIZE + hashlib.sha256().digest_size
_LABEL = b"circumvent user v1\0"


def user_id(token: bytes) -> bytes:
    """The number by which a relay finds the user; it does not reveal the token."""
    return hashlib.sha256(_LABEL + token).digest()[:USER_ID_SIZE]


def make_credential(token: bytes, binding: bytes) -> bytes:
    """A proof that its sender has ``token``, for the channel with that binding."""
    return user_id(token) + hmac.digest(token, _LABEL + binding, hashlib.sha256)


def is_credential(credential: bytes, token: bytes, binding: bytes) -> bool:
    """Whether ``credential`` proves ``token``; takes the same time for all wrong ones."""
    return hmac.compare_digest(credential, make_credential(token, binding))
