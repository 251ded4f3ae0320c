"""A certificate for the test servers; clients trust it by its pin, no store is touched."""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

SERVER_NAME = "server.near.test"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM, and what a client pins: the SHA-256 of the certificate in DER."""

    chain: Path
    key: Path
    authority: Path
    sha256: str


def make_certificate(folder: Path, name: str = SERVER_NAME) -> Certificate:
    """Issue one for ``name`` and loopback, by an authority that nobody knows."""
    authority = trustme.CA()
    issued = authority.issue_cert(name, "127.0.0.1", "::1")
    certificate = issued.cert_chain_pems[0]
    files = Certificate(
        chain=folder / "server.pem",
        key=folder / "server.key",
        authority=folder / "authority.pem",
        sha256=hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.bytes().decode())).hexdigest(),
    )
    certificate.write_to_path(str(files.chain))
    issued.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.authority))
    return files
