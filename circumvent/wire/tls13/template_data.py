"""Templates as JSON, so that a signed bundle can bring a newer browser without a release."""

from __future__ import annotations

import msgspec

from circumvent.wire.tls13.codes import TLS13, Extension
from circumvent.wire.tls13.key_shares import USABLE
from circumvent.wire.tls13.suites import SUITES
from circumvent.wire.tls13.templates import GREASE, Template

MAX_SIZE = 16 * 1024  # bytes of JSON; Chrome's has two thousand
MAX_LIST = 64  # numbers in one list; browsers have at most twenty
MAX_BODY = 2048  # bytes of one extension; the key shares have 1300
MAX_NAME = 64  # bytes of a protocol's name
_LARGEST = 0xFFFF
_NEEDED = (Extension.GROUPS, Extension.KEY_SHARE, Extension.SIGNATURES, Extension.VERSIONS)
_DRAWN = (*_NEEDED, Extension.SERVER_NAME, Extension.ALPN, Extension.COMPRESSION)
# An offer that we could not keep, or that the client makes itself at the right place.
_FORBIDDEN = (Extension.PRE_SHARED_KEY, Extension.COOKIE, Extension.ECH_OUTER, 0x002A, 0x0031)


def write_template(template: Template) -> bytes:
    """Bytes are written in base64."""
    return msgspec.json.encode(template)


def read_template(data: bytes) -> Template:
    """Raises ValueError when it is no template, or one that this client cannot speak."""
    if len(data) > MAX_SIZE:
        raise ValueError("the hello is larger than any browser's")
    template = msgspec.json.decode(data, type=Template)
    _check_numbers(template)
    _check_bytes(template)
    _check_meaning(template)
    return template


def _check_numbers(template: Template) -> None:
    lists = (
        *(template.ciphers, template.extensions, template.groups, template.shares),
        *(template.signatures, template.versions, template.compressions),
        template.not_with_ticket,
        tuple(code for code, _ in template.fixed),
    )
    for numbers in lists:
        if len(numbers) > MAX_LIST or any(not 0 <= number <= _LARGEST for number in numbers):
            raise ValueError("the hello has a list that is too long, or a number that is too large")


def _check_bytes(template: Template) -> None:
    """All must fit the lengths that stand in front of it, and a first flight."""
    form = template.ech_grease
    if form is not None and not (
        form.payloads
        and all(0 < size <= MAX_BODY for size in form.payloads)
        and form.aeads
        and all(0 <= aead <= _LARGEST for aead in form.aeads)
    ):
        raise ValueError("the hello has an ECH extension that no browser has")
    if any(not 0 < len(name.encode()) <= MAX_NAME for name in (*template.alpn, *template.alps)):
        raise ValueError("the hello names a protocol that is too long")
    if any(len(body) > MAX_BODY for _, body in template.fixed):
        raise ValueError("the hello has an extension that is too large")


def _check_meaning(template: Template) -> None:
    extensions = [code for code in template.extensions if code != GREASE]
    if len(set(extensions)) < len(extensions) or not set(_NEEDED) <= set(extensions):
        raise ValueError("the hello misses an extension, or has it twice")
    if set(extensions) & set(_FORBIDDEN):
        raise ValueError("the hello offers what this client cannot do")
    if set(template.not_with_ticket) & set(_NEEDED):
        raise ValueError("the hello misses an extension where it has a ticket")
    if TLS13 not in template.versions or not set(template.ciphers) & set(SUITES):
        raise ValueError("the hello does not offer TLS 1.3")
    if not set(template.shares) <= USABLE | {GREASE} or not set(template.shares) & USABLE:
        raise ValueError("the hello has a key share that this client cannot make")
    if template.extensions.count(GREASE) not in {0, 2}:
        raise ValueError("the hello has GREASE at one end only")
    if {code for code, _ in template.fixed} & set(_DRAWN):
        raise ValueError("the hello fixes what is different each time")
