"""Builds a ClientHello from a template (RFC 8446 §4.1.2), as the browser would."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from circumvent.wire.tls13.codes import TLS12, Extension, Message
from circumvent.wire.tls13.extension_bodies import Grease, draw_grease, greased, make_bodies
from circumvent.wire.tls13.key_shares import Pair, make_pairs
from circumvent.wire.tls13.reader import u8, u16, vector8, vector16, vector24
from circumvent.wire.tls13.templates import GREASE, Template

RANDOM_AT = 6  # where the random starts in the message
SESSION_ID_AT = 39
SESSION_ID_SIZE = 32
_RANDOM_SIZE = 32
_NO_COMPRESSION = vector8(b"\0")


@dataclass(slots=True)
class Hello:
    """A ClientHello that can be built again, for a second try (RFC 8446 §4.1.2).

    ``pairs`` are the private keys of its key shares, by group. ``order`` is that of the
    extensions, ``bodies`` has their bytes. ``alpn`` is what it offers.
    """

    template: Template
    ciphers: bytes
    order: list[int]
    bodies: dict[int, bytes]
    alpn: tuple[str, ...]
    pairs: dict[int, Pair] = field(repr=False)
    random: bytes = field(default_factory=lambda: os.urandom(_RANDOM_SIZE))
    session_id: bytes = field(default_factory=lambda: os.urandom(SESSION_ID_SIZE))

    def message(self, last: bytes = b"") -> bytes:
        """The handshake message; ``last`` is a ticket: a whole extension that must come last."""
        head = u16(TLS12) + self.random + vector8(self.session_id)
        offer = vector16(self.ciphers) + _NO_COMPRESSION
        without = self.template.not_with_ticket if last else ()
        order = (code for code in self.order if code not in without)
        extensions = b"".join(u16(code) + vector16(self.bodies[code]) for code in order)
        body = head + offer + vector16(extensions + last)
        return u8(Message.CLIENT_HELLO) + vector24(body)

    @property
    def groups(self) -> set[int]:
        """The groups that it offers, with or without a key share."""
        return set(self.template.groups)

    def share_only(self, group: int) -> None:
        """A HelloRetryRequest asked for one group: send this share and no other."""
        self.pairs |= make_pairs((group,), same_x25519=False)
        share = u16(group) + vector16(self.pairs[group].public)
        self.bodies[Extension.KEY_SHARE] = vector16(share)

    def echo_cookie(self, cookie: bytes) -> None:
        """A HelloRetryRequest gave a cookie (RFC 8446 §4.2.2)."""
        self.bodies[Extension.COOKIE] = vector16(cookie)
        self.order.insert(1, Extension.COOKIE)


def make_hello(template: Template, server_name: str, alpn: tuple[str, ...] | None = None) -> Hello:
    """A new ClientHello with new keys.

    ``server_name`` may be empty, or an IP address: then none is sent. ``alpn`` None offers what
    the browser itself offers. A template may hold what ``key_shares`` knows, and GREASE.
    """
    pairs = make_pairs(template.shares, same_x25519=template.same_x25519)
    grease = draw_grease()
    offered = template.alpn if alpn is None else alpn
    bodies = make_bodies(template, server_name, offered, pairs, grease)
    return Hello(
        template=template,
        ciphers=greased(template.ciphers, grease.cipher),
        order=[code for code in _order(template, grease) if code in bodies],
        bodies=bodies,
        alpn=offered,
        pairs=pairs,
    )


def _order(template: Template, grease: Grease) -> list[int]:
    """The numbers of the extensions; GREASE stays at both ends when the others are permuted."""
    middle = [code for code in template.extensions if code != GREASE]
    if template.permuted:
        drawn = iter(memoryview(os.urandom(4 * len(middle))).cast("I"))
        middle.sort(key=lambda _: next(drawn))
    has_grease = GREASE in template.extensions
    return [grease.first, *middle, grease.last] if has_grease else middle
