"""Networks of servers, as a censor sees them, and how many handshakes each may see at once."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from weakref import WeakValueDictionary

from circumvent.net.patience import own_wait

HANDSHAKES_AT_ONCE = 3  # per network: some censors count TLS handshakes and block above a few
STRANGERS_AT_ONCE = 2  # of them: servers that never answer must not keep turns from those that do
_IPV4_PREFIX, _IPV6_PREFIX = 24, 48  # what one operator usually has in one place
_NAME_LABELS = 2
_HOSTS = 256  # servers whose network is remembered, and whether they have answered
_IPV4 = 4


@lru_cache(maxsize=_HOSTS)
def network_of(host: str) -> str:
    """The network that is blocked as a whole: /24, /48, or the name's last labels."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ".".join(host.lower().split(".")[-_NAME_LABELS:])
    prefix = _IPV4_PREFIX if address.version == _IPV4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False))


class HandshakeQueues:
    """One queue per network, first come, first served; a queue exists while it is used.

    A handshake gives its turn back after ``hanging_after`` seconds without an answer.
    """

    def __init__(self, hanging_after: float = 1.0) -> None:
        self._hanging_after = hanging_after
        self._queues: WeakValueDictionary[str, _Queue] = WeakValueDictionary()
        self._answered: dict[str, None] = {}  # the latest last

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Use around one handshake with ``host``; waits for its turn, passes on what is raised."""
        network = network_of(host)
        queue = self._queues.get(network)
        if queue is None:
            queue = self._queues[network] = _Queue(self._hanging_after)
        turn = await queue.take(is_stranger=host not in self._answered)
        try:
            yield
        except Exception:
            self._answered.pop(host, None)
            raise
        else:
            self._remember(host)
        finally:
            turn.give_back()

    def _remember(self, host: str) -> None:
        self._answered.pop(host, None)
        self._answered[host] = None
        if len(self._answered) > _HOSTS:
            del self._answered[next(iter(self._answered))]


class _Queue:
    """The handshakes of one network."""

    def __init__(self, hanging_after: float) -> None:
        self._hanging_after = hanging_after
        self._all = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self._strangers = asyncio.Semaphore(STRANGERS_AT_ONCE)

    async def take(self, *, is_stranger: bool) -> _Turn:
        places = [self._strangers, self._all] if is_stranger else [self._all]
        taken: list[asyncio.Semaphore] = []
        with own_wait():
            try:
                for place in places:
                    await place.acquire()
                    taken.append(place)
            except BaseException:
                for place in taken:
                    place.release()
                raise
        return _Turn(taken, self._hanging_after)


class _Turn:
    """Given back once: when the handshake is over, or when it hangs."""

    def __init__(self, taken: list[asyncio.Semaphore], hanging_after: float) -> None:
        self._taken = taken
        loop = asyncio.get_running_loop()
        self._hanging = loop.call_later(hanging_after, self.give_back)

    def give_back(self) -> None:
        self._hanging.cancel()
        while self._taken:
            self._taken.pop().release()
