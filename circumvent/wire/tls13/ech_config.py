"""Reads an ECHConfigList (RFC 9849 §4), as it stands in DNS, in a link or in a retry."""

from __future__ import annotations

from dataclasses import dataclass

from circumvent.errors import LinkError
from circumvent.wire.tls13.faults import Fault
from circumvent.wire.tls13.hpke import AEADS, KDF, KEM
from circumvent.wire.tls13.reader import Reader, u16, vector16

_VERSION = 0xFE0D
_MANDATORY = (
    0x8000  # this bit of an extension's number says that who does not know it must not go on
)
_WHAT = "list of keys (ECH)"


@dataclass(frozen=True, slots=True)
class EchConfig:
    """A key for the inner hello, and the name that the outer hello shows.

    ``raw`` is the whole ECHConfig. ``max_name`` is the length of the longest name behind it.
    """

    raw: bytes
    config_id: int
    public_key: bytes
    aead: int
    max_name: int
    public_name: str


def find_config(config_list: bytes) -> EchConfig:
    """The first config that we can use; raises LinkError."""
    try:
        configs = _read_list(config_list)
    except (Fault, UnicodeDecodeError):
        raise LinkError("ech: the key is malformed; ask for a new link") from None
    for config in configs:
        if config is not None:
            return config
    raise LinkError("ech: the key is of no kind that we know; ask for another link")


def _read_list(config_list: bytes) -> list[EchConfig | None]:
    reader = Reader(config_list, _WHAT)
    inside, configs = reader.inside(2), []
    reader.end()
    while inside:
        version, body = inside.number(2), inside.vector(2)
        configs.append(_read_config(body) if version == _VERSION else None)
    return configs


def _read_config(body: bytes) -> EchConfig | None:
    reader = Reader(body, _WHAT)
    config_id, kem = reader.number(1), reader.number(2)
    public_key, suites = reader.vector(2, at_least=1), reader.inside(2)
    aeads = [suite & 0xFFFF for suite in suites.numbers(4) if suite >> 16 == KDF]
    max_name, public_name = reader.number(1), reader.vector(1, at_least=1).decode("ascii")
    is_strange = _has_mandatory(reader.inside(2))
    reader.end()
    usable = [aead for aead in aeads if aead in AEADS]
    if kem != KEM or not usable or is_strange:
        return None
    raw = u16(_VERSION) + vector16(body)
    return EchConfig(raw, config_id, public_key, usable[0], max_name, public_name)


def _has_mandatory(extensions: Reader) -> bool:
    found = False
    while extensions:
        found |= bool(extensions.number(2) & _MANDATORY)
        extensions.vector(2)
    return found
