"""A ClientHello taken apart: its fingerprint, and its form without what is drawn anew each time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from circumvent.wire.tls13.codes import Extension
from circumvent.wire.tls13.templates import GREASE

ECH_HEAD = 42  # bytes in front of the payload: type, suite, id, key of X25519, two lengths


@dataclass(frozen=True, slots=True)
class Hello:
    """A ClientHello taken apart."""

    record_version: int
    random: bytes
    session_id: bytes
    ciphers: list[int]
    extensions: list[tuple[int, bytes]]

    @property
    def bodies(self) -> dict[int, bytes]:
        return dict(self.extensions)

    @property
    def order(self) -> list[int]:
        """The numbers of the extensions."""
        return [plain(code) for code, _ in self.extensions]

    @property
    def is_resumed(self) -> bool:
        """Whether a ticket is offered."""
        return Extension.PRE_SHARED_KEY in self.bodies


def is_grease(number: int) -> bool:
    return number & 0x0F0F == GREASE and number >> 8 == number & 0xFF


def plain(number: int) -> int:
    """The number, or what stands for all GREASE."""
    return GREASE if is_grease(number) else number


def numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


def parse_hello(record: bytes) -> Hello:
    assert record[0] == 22
    assert record[5] == 1
    assert len(record) == 5 + int.from_bytes(record[3:5])
    body = record[9:]
    at = 35 + body[34]
    session_id = body[35:at]
    size = int.from_bytes(body[at : at + 2])
    ciphers = numbers(body[at + 2 : at + 2 + size])
    at += 2 + size + 2 + 2
    extensions = []
    while at < len(body):
        size = int.from_bytes(body[at + 2 : at + 4])
        extensions.append((int.from_bytes(body[at : at + 2]), body[at + 4 : at + 4 + size]))
        at += 4 + size
    version = int.from_bytes(record[1:3])
    return Hello(version, body[2:34], session_id, ciphers, extensions)


def listed(body: bytes, head: int = 2) -> list[int]:
    """The numbers behind a length of ``head`` bytes, GREASE as one number."""
    return [plain(number) for number in numbers(body[head:])]


def shares(body: bytes) -> list[tuple[int, int]]:
    """Groups of key shares and their sizes."""
    found, at = [], 2
    while at < len(body):
        size = int.from_bytes(body[at + 2 : at + 4])
        found.append((plain(int.from_bytes(body[at : at + 2])), size))
        at += 4 + size
    return found


def ja4(record: bytes) -> str:
    """The fingerprint that censors and their suppliers count by (FoxIO's JA4 of TLS over TCP)."""
    hello = parse_hello(record)
    ciphers = [number for number in hello.ciphers if not is_grease(number)]
    codes = [code for code, _ in hello.extensions if not is_grease(code)]
    bodies = hello.bodies
    alpn = bodies.get(16, b"")[3 : 3 + bodies[16][2]].decode() if 16 in bodies else "00"
    versions = [number for number in numbers(bodies[43][1:]) if not is_grease(number)]
    version = {0x0304: "13", 0x0303: "12"}[max(versions)]
    name = "d" if 0 in bodies else "i"
    head = f"t{version}{name}{len(ciphers):02}{len(codes):02}{alpn[0]}{alpn[-1]}"
    signatures = [n for n in numbers(bodies[13][2:]) if not is_grease(n)]
    sorted_codes = _join(sorted(code for code in codes if code not in {0, 16}))
    last = _digest(sorted_codes + "_" + _join(signatures))
    return f"{head}_{_digest(_join(sorted(ciphers)))}_{last}"


def _join(values: list[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def form(record: bytes, *, permuted: bool) -> dict[str, str]:
    """Each field of a hello in words, without what is drawn anew for each.

    That is GREASE, the random, the session id, keys, tickets, what ECH seals and which of its
    ciphers is named, and where extensions are ``permuted``, their order.
    """
    hello = parse_hello(record)
    order = hello.order
    fields = {
        "version of the record": f"{hello.record_version:04x}",
        "length of the session id": str(len(hello.session_id)),
        "ciphers": _join([plain(number) for number in hello.ciphers]),
        "order of extensions": _join(_unpermuted(order) if permuted else order),
    }
    seen: dict[int, int] = {}
    for code, body in zip(order, (body for _, body in hello.extensions), strict=True):
        count = seen[code] = seen.get(code, 0) + 1
        fields[f"extension {code:04x}" + (f" ({count})" if code == GREASE else "")] = _body(
            code, body
        )
    return fields


def _unpermuted(order: list[int]) -> list[int]:
    """GREASE and the ticket stay where they are."""
    if GREASE not in order:
        return sorted(order)
    first, last = order.index(GREASE), len(order) - order[::-1].index(GREASE)
    return [*order[:first], GREASE, *sorted(order[first + 1 : last - 1]), *order[last - 1 :]]


def _body(code: int, body: bytes) -> str:
    match code:
        case Extension.KEY_SHARE:
            return ", ".join(f"{group:04x} of {size} bytes" for group, size in shares(body))
        case Extension.ECH:
            aligned = int.from_bytes(body[ECH_HEAD - 2 : ECH_HEAD]) == len(body) - ECH_HEAD
            return f"{body[:3].hex()}, key of {int.from_bytes(body[6:8])}" + (
                "" if aligned else ", something behind it"
            )
        case Extension.GROUPS | Extension.SIGNATURES:
            return _join(listed(body))
        case Extension.VERSIONS:
            return _join(listed(body, 1))
        case Extension.PRE_SHARED_KEY:
            size = int.from_bytes(body[2:4])
            return f"one identity, binders of {len(body) - 2 - 2 - size - 4} bytes"
        case _:
            return body.hex()


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The fields in which two forms differ, and what each of them has there."""
    names = dict.fromkeys([*one, *other])
    missing = "(nothing)"
    pairs = [(name, one.get(name, missing), other.get(name, missing)) for name in names]
    return [(name, mine, theirs) for name, mine, theirs in pairs if mine != theirs]
