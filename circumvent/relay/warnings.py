"""What an operator is told at every start, because it is dangerous."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from circumvent.relay.config import RelayConfig

PRIVATE_WARNING = (
    "allow_private is on: users reach this machine's own services and its private networks;"
    " for labs only"
)
METRICS_WARNING = (
    "metrics: everybody who reaches {address} can read them, and that this is a relay;"
    " listen on 127.0.0.1, or let a firewall admit your Prometheus alone"
)


def warnings(config: RelayConfig) -> Iterator[str]:
    """The warnings that the configuration deserves."""
    if config.egress.allow_private:
        yield PRIVATE_WARNING
    address = config.metrics_address
    if address is not None and not _is_private(address.host):
        yield METRICS_WARNING.format(address=address)


def _is_private(host: str) -> bool:
    """Whether nobody on the Internet reaches ``host``, as far as its address tells."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_private and not address.is_unspecified
