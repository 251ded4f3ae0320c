"""Where a server is, as a censor sees it: networks, and how many handshakes each may see."""

from __future__ import annotations

import asyncio
import ipaddress
from functools import lru_cache
from weakref import WeakValueDictionary

HANDSHAKES_AT_ONCE = 3  # per network: some censors count TLS handshakes and block above a few
_IPV4_PREFIX, _IPV6_PREFIX = 24, 48  # what one operator usually has in one place
_NAME_LABELS = 2
_HOSTS = 256  # servers whose network is remembered
_IPV4 = 4


@lru_cache(maxsize=_HOSTS)
def network_of(host: str) -> str:
    """The neighbourhood that is blocked at once: /24, /48, or the name's last labels."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ".".join(host.lower().split(".")[-_NAME_LABELS:])
    prefix = _IPV4_PREFIX if address.version == _IPV4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False))


class HandshakeQueues:
    """One queue per network, first come, first served; who is not in a queue costs nothing."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._queues)

    def turn(self, host: str) -> asyncio.Semaphore:
        """A context manager for one handshake with ``host``; entering it waits for its turn."""
        network = network_of(host)
        queue = self._queues.get(network)
        if queue is None:
            queue = self._queues[network] = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        return queue
