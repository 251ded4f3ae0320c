"""From captured ClientHellos to a template, from templates to their source, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from circumvent.wire.tls13 import captured as shipped
from circumvent.wire.tls13.codes import Extension
from circumvent.wire.tls13.handshake_records import wrap_hello
from circumvent.wire.tls13.hello import make_hello
from circumvent.wire.tls13.templates import GREASE, EchGrease, Template
from circumvent.wire.tls13.tickets import Offer, Ticket
from tests.hellos.browsers import Captured
from tests.hellos.form import ECH_HEAD, differences, form, ja4, listed, parse_hello, plain, shares

SOURCE = Path(shipped.__file__)
_HEAD = '''"""The ClientHellos of real browsers. `make hellos` writes this file; do not edit it."""

from __future__ import annotations

from circumvent.wire.tls13.templates import EchGrease, Template

'''
_LINE = 80  # hexadecimal digits
_NAME_AT = 5  # in the body of server_name: RFC 6066 §3
_X25519, _SHA256_TICKET, _SHA384_TICKET = 0x001D, 0x1301, 0x1302
_DRAWN = {
    *(GREASE, Extension.SERVER_NAME, Extension.ALPN, Extension.ALPS, Extension.GROUPS),
    *(Extension.SIGNATURES, Extension.VERSIONS, Extension.KEY_SHARE, Extension.COMPRESSION),
    *(Extension.ECH, Extension.PRE_SHARED_KEY),
}


def read_off(name: str, captured: Captured) -> Template:
    """The template that all hellos for pages follow."""
    hellos = [parse_hello(record) for record in captured.pages]
    pages = [each for each in hellos if not each.is_resumed]
    resumed = next(each for each in hellos if each.is_resumed)
    ciphers, bodies = pages[0].ciphers, pages[0].bodies
    orders = {tuple(each.order) for each in pages}
    return Template(
        name=name,
        ciphers=tuple(map(plain, ciphers)),
        extensions=_settle(orders),
        groups=tuple(listed(bodies[Extension.GROUPS])),
        shares=tuple(group for group, _ in shares(bodies[Extension.KEY_SHARE])),
        signatures=tuple(listed(bodies[Extension.SIGNATURES])),
        versions=tuple(listed(bodies[Extension.VERSIONS], 1)),
        fixed=tuple(sorted((c, body) for c, body in bodies.items() if plain(c) not in _DRAWN)),
        compressions=tuple(listed(bodies.get(Extension.COMPRESSION, b""), 1)),
        alpn=_names(bodies.get(Extension.ALPN, b"")),
        alps=_names(bodies.get(Extension.ALPS, b"")),
        ech_grease=_ech([each.bodies[Extension.ECH] for each in pages if Extension.ECH in bodies]),
        permuted=len(orders) > 1,
        not_with_ticket=tuple(sorted(set(pages[0].order) - set(resumed.order))),
        same_x25519=_has_one_key(bodies[Extension.KEY_SHARE]),
    )


def _settle(orders: set[tuple[int, ...]]) -> tuple[int, ...]:
    """The order, or where there are many, that of the numbers between two GREASE."""
    order = next(iter(orders))
    if len(orders) == 1:
        return order
    middle = sorted(code for code in order if code != GREASE)
    return (GREASE, *middle, GREASE) if GREASE in order else tuple(middle)


def _names(body: bytes) -> tuple[str, ...]:
    found, at = [], 2
    while at < len(body):
        end = at + 1 + body[at]
        found.append(body[at + 1 : end].decode())
        at = end
    return tuple(found)


def _ech(bodies: Sequence[bytes]) -> EchGrease | None:
    """What was drawn in at least one of them."""
    if not bodies:
        return None
    return EchGrease(
        aeads=tuple(sorted({int.from_bytes(body[3:5]) for body in bodies})),
        payloads=tuple(sorted({len(body) - ECH_HEAD for body in bodies})),
    )


def _has_one_key(body: bytes) -> bool:
    """Whether the X25519 key of the hybrid share, its end, is sent alone too."""
    keys, at = {}, 2
    for group, size in shares(body):
        keys[group] = body[at + 4 : at + 4 + size]
        at += 4 + size
    alone = keys.pop(_X25519)
    return any(key.endswith(alone) for key in keys.values())


# --- ours beside theirs --------------------------------------------------------------------------


def ours_like(theirs: bytes, template: Template, alpn: tuple[str, ...] | None) -> bytes:
    """A hello from the template, to the same name and with a ticket of the same size."""
    seen = parse_hello(theirs)
    name = seen.bodies.get(Extension.SERVER_NAME, b"")[_NAME_AT:].decode()
    hello = make_hello(template, name, alpn)
    if not seen.is_resumed:
        return wrap_hello(hello.message(), is_first=True)
    body = seen.bodies[Extension.PRE_SHARED_KEY]
    size = int.from_bytes(body[2:4])
    binder = body[2 + int.from_bytes(body[:2]) + 2]
    suite = _SHA256_TICKET if binder == 32 else _SHA384_TICKET
    ticket = Ticket(suite, bytes(size), bytes(binder), 1, 7200, received=0.0)
    offer = Offer(ticket, now=1.0)
    message = offer.bind(hello.message(offer.extension()), None)
    return wrap_hello(message, is_first=True)


def compare(template: Template, captured: Captured) -> Iterator[str]:
    """Lines: what differs, use by use; none where only chance differs."""
    for use, alpn, records in captured.uses:
        pairs = ((ours_like(theirs, template, alpn), theirs) for theirs in records)
        found = {line: None for pair in pairs for line in _compare_pair(*pair, template)}
        yield from (f"{use}: {line}" for line in found)
    seen = read_off(template.name, captured)
    for each in ("permuted", "same_x25519", "not_with_ticket"):  # which no single hello can show
        mine, theirs = getattr(template, each), getattr(seen, each)
        if mine != theirs:
            yield f"all pages: {each}: ours {mine}, theirs {theirs}"
    if not _may_draw(template.ech_grease, seen.ech_grease):
        yield f"all pages: ech_grease: ours {template.ech_grease}, theirs {seen.ech_grease}"


def _may_draw(ours: EchGrease | None, theirs: EchGrease | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return set(ours.aeads) >= set(theirs.aeads) and set(ours.payloads) >= set(theirs.payloads)


def _compare_pair(ours: bytes, theirs: bytes, template: Template) -> Iterator[str]:
    forms = [form(each, permuted=template.permuted) for each in (ours, theirs)]
    fields = differences(*forms)
    if ja4(ours) != ja4(theirs):
        fields.append(("JA4", ja4(ours), ja4(theirs)))
    for name, mine, other in fields:
        yield f"{name}: ours {_short(mine)}, theirs {_short(other)}"


def _short(text: str) -> str:
    return text if len(text) <= _LINE else f"{text[:_LINE]}... ({len(text)} characters)"


# --- source --------------------------------------------------------------------------------------


def source(templates: Mapping[str, Template], versions: Mapping[str, str]) -> str:
    """The module with these templates, to be formatted."""
    parts = [f"READ_FROM = {dict(sorted(versions.items()))!r}\n"]
    parts += [f"{name.upper()} = {_source(each)}\n" for name, each in templates.items()]
    return _HEAD + "\n".join(parts)


def _source(template: Template) -> str:
    lines = [f"{each.name}={_value(getattr(template, each.name))}," for each in fields(Template)]
    return "Template(\n" + "\n".join(lines) + "\n)"


def _value(value: object) -> str:
    """As people write it: numbers of protocols in hexadecimal."""
    match value:
        case bool() | str() | None:
            return repr(value)
        case int():
            return f"0x{value:04X}"
        case bytes():
            text = value.hex()
            lines = [f'"{text[at : at + _LINE]}"' for at in range(0, len(text), _LINE)]
            return f"bytes.fromhex({' '.join(lines)})" if value else 'b""'
        case EchGrease():
            return f"EchGrease(aeads={_value(value.aeads)}, payloads={value.payloads!r})"
        case tuple():
            return "(" + ", ".join(map(_value, value)) + ("," * (len(value) == 1)) + ")"
    raise TypeError(value)
