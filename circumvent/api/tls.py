"""What TLS is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to start TLS on a stream.

    ``server_name`` is sent as SNI and verified. ``certificate_sha256`` and ``spki_sha256`` are
    lists of acceptable SHA-256 digests (of the whole certificate, of its public key); with a pin,
    the chain need not lead to a known authority. ``verify=False`` is for users who asked for it
    explicitly. ``send_name=False`` sends no SNI; the name is verified all the same.
    ``only_tls13`` refuses a server that chose an older version, which is offered nevertheless.
    ``alpn`` None offers what the browser offers, an empty one nothing. ``fingerprint`` is the
    browser whose ClientHello is sent (chrome, firefox, safari, ios, android, edge, random,
    randomized); Chrome where it is none of these. ``certificate_names``: the certificate must be
    for one of them instead of ``server_name``. A digest may be that of an authority in the chain:
    then it alone is trusted, for these names. ``ech`` is an ECHConfigList (RFC 9849 §4), with which
    ``server_name`` is encrypted.
    """

    server_name: str
    alpn: tuple[str, ...] | None = None
    verify: bool = True
    certificate_sha256: tuple[bytes, ...] = ()
    spki_sha256: tuple[bytes, ...] = ()
    send_name: bool = True
    only_tls13: bool = False
    fingerprint: str = ""
    certificate_names: tuple[str, ...] = ()
    ech: bytes = b""

    @property
    def verified_names(self) -> tuple[str, ...]:
        """The names of which the certificate must have one."""
        return self.certificate_names or (self.server_name,)

    @property
    def authenticates(self) -> bool:
        """Whether the server must prove who it is: by a known authority or by a pin."""
        return self.verify or bool(self.certificate_sha256 or self.spki_sha256)
