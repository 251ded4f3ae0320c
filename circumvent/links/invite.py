"""Invites: one link that tells whom to trust, where to ask, and what unseals the answers.

``circumvent://invite?trust=KEY,KEY&threshold=2&bucket=KEY&source=URL&source=URL#name``; keys are
raw, in base64url without padding. The bucket's key is a secret: whoever has it can read the
bucket's bundles. No error text repeats any of the link.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from circumvent.errors import LinkError
from circumvent.links.uri import split_name
from circumvent.wire.base64url import decode_base64, encode_base64url
from circumvent.wire.bundle import MAX_SOURCE, MAX_SOURCES, Trust
from circumvent.wire.dsse import KEY_SIZE
from circumvent.wire.link_text import check_text
from circumvent.wire.sealing import BUCKET_KEY_SIZE

PREFIX = "circumvent://invite"
_KNOWN = ("trust", "threshold", "bucket", "source")
_IN_URLS = ":/?@[]*+,;=!$'()"  # read more easily as they are; & and # and % are encoded


@dataclass(frozen=True, slots=True)
class Invite:
    """Whom to trust, where to ask first, and the raw X25519 key of the bucket, if any."""

    trust: Trust
    sources: tuple[str, ...]
    bucket: bytes | None = field(default=None, repr=False)
    name: str = ""

    @property
    def id(self) -> str:
        """A short name without secrets, of keys and bucket only: what was seen is kept under it."""
        seed = self.trust.authority.encode() + (self.bucket or b"")
        return hashlib.sha256(b"circumvent invite " + seed).hexdigest()[:16]


def is_invite(text: str) -> bool:
    """Whether ``text`` looks like an invite."""
    return text.strip().lower().startswith("circumvent://")


def parse_invite(text: str) -> Invite:
    """Read an invite; raises LinkError naming the part that is wrong."""
    body, name = split_name(text)
    head, question, query = body.partition("?")
    if head.rstrip("/").lower() != PREFIX or not question:
        raise LinkError(f'invite: starts with "{PREFIX}?"; copy the whole link')
    fields = _parse_query(query)
    sources = tuple(map(_decode, fields["source"]))
    if not sources or len(sources) > MAX_SOURCES:
        raise LinkError(f"source: an invite names 1 to {MAX_SOURCES} of them; ask for another")
    if any(not 0 < len(source) <= MAX_SOURCE for source in sources):
        raise LinkError(f"source: is empty or longer than {MAX_SOURCE} characters")
    return Invite(
        trust=_parse_trust(_one(fields, "trust"), _one(fields, "threshold") or "1"),
        sources=sources,
        bucket=_parse_key("bucket", _one(fields, "bucket"), BUCKET_KEY_SIZE),
        name=name,
    )


def format_invite(invite: Invite) -> str:
    """The invite as a link; ``parse_invite`` gives the same value back."""
    query = ["trust=" + ",".join(map(encode_base64url, invite.trust.keys))]
    if invite.trust.threshold != 1:
        query.append(f"threshold={invite.trust.threshold}")
    if invite.bucket is not None:
        query.append(f"bucket={encode_base64url(invite.bucket)}")
    query += [f"source={quote(source, safe=_IN_URLS)}" for source in invite.sources]
    name = f"#{quote(invite.name, safe='')}" if invite.name else ""
    return f"{PREFIX}?{'&'.join(query)}{name}"


def _parse_query(query: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {key: [] for key in _KNOWN}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in fields:
            raise LinkError("invite: has a part that this version does not know; update circumvent")
        fields[key].append(value)
    return fields


def _one(fields: dict[str, list[str]], key: str) -> str:
    values = fields[key]
    if len(values) > 1:
        raise LinkError(f"{key}: is given twice; copy the link again")
    return values[0] if values else ""


def _parse_trust(keys: str, threshold: str) -> Trust:
    parsed = [_parse_key("trust", key, KEY_SIZE) for key in keys.split(",")]
    if not (threshold.isascii() and threshold.isdigit()):
        raise LinkError("threshold: is not a number; copy the link again")
    try:
        return Trust(tuple(key for key in parsed if key is not None), int(threshold[:4]))
    except ValueError as error:
        raise LinkError(f"trust: {error}; ask for another invite") from None


def _parse_key(part: str, text: str, size: int) -> bytes | None:
    if not text:
        return None
    key = decode_base64(part, text)
    if len(key) != size or encode_base64url(key) != text.rstrip("="):
        raise LinkError(f"{part}: is not a key of {size} bytes; copy the whole link again")
    return key


def _decode(source: str) -> str:
    try:
        decoded = unquote(source, errors="strict")
    except UnicodeDecodeError:
        raise LinkError("source: its percent-encoding is not UTF-8; copy the link again") from None
    return check_text(decoded)
