"""The bodies of a ClientHello's extensions, where they are not the same each time."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from random import SystemRandom

from circumvent.wire.tls13.codes import Extension
from circumvent.wire.tls13.key_shares import Pair
from circumvent.wire.tls13.reader import u8, u16, u16s, vector8, vector16
from circumvent.wire.tls13.templates import GREASE, EchGrease, Template

_RANDOM = SystemRandom()
_HKDF_SHA256 = 1  # RFC 9180 §7.2
_X25519_SIZE = 32
_OUTER = 0  # RFC 9849 §5: the type of ECHClientHello
_GREASE_VALUES = tuple(n << 12 | 0xA << 8 | n << 4 | 0xA for n in range(16))  # RFC 8701 §2
_ANOTHER = 0x1010  # turns one of them into another


@dataclass(frozen=True, slots=True)
class Grease:
    """The values that stand for GREASE in one hello; those of the extensions differ."""

    cipher: int
    first: int
    last: int
    group: int
    version: int
    signature: int


def draw_grease() -> Grease:
    """As BoringSSL does: each place has its own value."""
    cipher, first, last, group, version, signature = (
        _GREASE_VALUES[drawn % len(_GREASE_VALUES)] for drawn in os.urandom(6)
    )
    if first == last:
        last ^= _ANOTHER
    return Grease(cipher, first, last, group, version, signature)


def is_grease(number: int) -> bool:
    """Whether it is one of the values that mean nothing."""
    return number in _GREASE_VALUES


def greased(values: Iterable[int], drawn: int) -> bytes:
    """A list of numbers of two bytes, with what was drawn in the place of GREASE."""
    return u16s(tuple(drawn if value == GREASE else value for value in values))


def make_bodies(
    template: Template,
    server_name: str,
    alpn: tuple[str, ...],
    pairs: dict[int, Pair],
    grease: Grease,
) -> dict[int, bytes]:
    """By number; what is not to be sent is missing."""
    versions = vector8(greased(template.versions, grease.version))
    bodies = {
        **dict(template.fixed),
        grease.first: b"",
        grease.last: b"\0",
        Extension.GROUPS: vector16(greased(template.groups, grease.group)),
        Extension.SIGNATURES: vector16(greased(template.signatures, grease.signature)),
        Extension.VERSIONS: versions,
        Extension.COMPRESSION: vector8(u16s(template.compressions)),
        Extension.KEY_SHARE: vector16(_shares(template, pairs, grease)),
    }
    bodies.update(_names(template, server_name, alpn))
    if template.ech_grease is not None:
        bodies[Extension.ECH] = ech_grease(template.ech_grease)
    return bodies


def _names(template: Template, server_name: str, alpn: tuple[str, ...]) -> dict[int, bytes]:
    """The extensions that are sent only where there is something to say."""
    bodies = {}
    if server_name and not _is_address(server_name):
        bodies[int(Extension.SERVER_NAME)] = name_body(server_name)
    if alpn:
        bodies[int(Extension.ALPN)] = _protocols(alpn)
    alps = tuple(name for name in template.alps if name in alpn)
    if alps:
        bodies[int(Extension.ALPS)] = _protocols(alps)
    return bodies


def name_body(server_name: str) -> bytes:
    """The body of server_name (RFC 6066 §3)."""
    return vector16(b"\0" + vector16(server_name.encode("ascii")))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _protocols(names: tuple[str, ...]) -> bytes:
    return vector16(b"".join(vector8(name.encode()) for name in names))


def _shares(template: Template, pairs: dict[int, Pair], grease: Grease) -> bytes:
    """A share of GREASE is one byte, of the group that stands for GREASE in the groups."""
    return b"".join(
        u16(grease.group) + vector16(b"\0")
        if group == GREASE
        else u16(group) + vector16(pairs[group].public)
        for group in template.shares
    )


def ech_grease(form: EchGrease) -> bytes:
    """An ECH extension that looks real: only random bytes are in it (RFC 9849 §6.2)."""
    suite = u16(_HKDF_SHA256) + u16(_RANDOM.choice(form.aeads))
    key, config_id = os.urandom(_X25519_SIZE), os.urandom(1)
    payload = os.urandom(_RANDOM.choice(form.payloads))
    return u8(_OUTER) + suite + config_id + vector16(key) + vector16(payload)
