"""Destinations and their SOCKS5 encoding (RFC 1928 §5), shared by several protocols."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass

IPV4, NAME, IPV6 = 1, 3, 4
MAX_NAME = 255  # one length byte on the wire
MAX_LABEL = 63  # RFC 1035 §2.3.4
MAX_PORT = 0xFFFF
IPV4_PARTS = 4
_JOINERS = "\u200c\u200d"
_NO_NAME = re.compile(r"[^a-z0-9_.\x80-\U0010ffff-]")  # a full-width slash becomes a slash
_DECIMAL = {str(number): number for number in range(256)}  # no leading zeros: some read octal


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a stream leads: a name or an IP address (no brackets), and a TCP port."""

    host: str
    port: int

    def encode_host(self) -> tuple[int, bytes]:
        """Kind (IPV4, NAME, IPV6) and body: 4 or 16 bytes, or a length byte and the name.

        Raises ValueError when the name does not fit the wire.
        """
        host = self.host
        if ":" in host:
            with contextlib.suppress(ValueError):
                return IPV6, ipaddress.IPv6Address(host).packed
        elif host[-1:].isdigit():  # RFC 1123 §2.1: no top-level name ends so
            packed = pack_ipv4(host)
            if packed is not None:
                return IPV4, packed
        name = encode_name(host)
        return NAME, bytes((len(name),)) + name

    def encode(self) -> bytes:
        """``ATYP | address | port`` as in RFC 1928 §5."""
        kind, body = self.encode_host()
        return bytes((kind,)) + body + self.port.to_bytes(2)

    def __str__(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def pack_ipv4(text: str) -> bytes | None:
    """The four bytes of ``a.b.c.d``, or None when it is no such address.

    As strict as ``ipaddress``, which takes three times as long; called for every new stream.
    """
    parts = text.split(".")
    if len(parts) != IPV4_PARTS:
        return None
    numbers = [_DECIMAL.get(part, -1) for part in parts]
    return bytes(numbers) if min(numbers) >= 0 else None


def encode_name(name: str) -> bytes:
    """A host name as it goes on the wire; ValueError when empty, too long or not encodable.

    ASCII stays as it is, with underscores and all; the rest is encoded as browsers do
    (UTS #46, non-transitional), for ``straße`` and ``strasse`` are two names.
    """
    raw = (name if name.isascii() else _to_ascii(name)).encode("ascii")
    if not 0 < len(raw) <= MAX_NAME:
        raise ValueError(f"a host name has 1 to {MAX_NAME} bytes, not {len(raw)}")
    return raw


def _to_ascii(name: str) -> str:
    import idna  # noqa: PLC0415 - few names need its large tables

    mapped = idna.uts46_remap(name, std3_rules=False)
    if _NO_NAME.search(mapped):
        raise ValueError("a host name has letters, digits, '-' and '_' only")
    return ".".join(map(_encode_label, mapped.split(".")))


def _encode_label(label: str) -> str:
    """A label in ASCII; ValueError for a joiner that joins nothing (RFC 5892 A.1-2).

    Symbols that only IDNA 2008 forbids are encoded too: browsers find such names.
    """
    import idna  # noqa: PLC0415 - as above

    joiners = (at for at, character in enumerate(label) if character in _JOINERS)
    if not all(idna.valid_contextj(label, at) for at in joiners):
        raise ValueError("a joiner stands where nothing can be joined")
    encoded = label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
    if len(encoded) > MAX_LABEL:
        raise ValueError(f"a label has at most {MAX_LABEL} bytes")
    return encoded
