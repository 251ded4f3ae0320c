"""Where streams in memory lead: listeners by address and port, and a dialer that reaches them."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

from circumvent.api import DialError, NetworkDialer
from circumvent.api.streams import Route, TlsEngine
from circumvent.net.patience import note_reached
from tests.virtual.stream import MemoryStream, pair

TRIP = 0.01  # seconds from a dial to its end


class Listener:
    """Accepts connections to an address while it is open."""

    ports = itertools.count(20_000)
    open: ClassVar[dict[tuple[str, int], Listener]] = {}

    def __init__(self, accept: Callable[[MemoryStream], None], address: str = "127.0.0.1") -> None:
        self._accept = accept
        self.address = address
        self.port = next(self.ports)

    def listen(self) -> None:
        self.open[self.address, self.port] = self

    def close(self) -> None:
        self.open.pop((self.address, self.port), None)

    def connect(self) -> MemoryStream:
        near, far = pair()
        self._accept(far)
        return near


class MemoryDialer:
    """Reaches every listener that is open. While ``lacks`` is set, this machine lacks something."""

    def __init__(self, tls: TlsEngine | None = None) -> None:
        self.lacks: int | None = None  # an errno
        self._tls = tls

    @property
    def for_plugins(self) -> NetworkDialer:
        """As what it is handed out; what it cannot do, no test asks it for."""
        return cast("NetworkDialer", self)

    async def tcp(self, host: str, port: int) -> MemoryStream:
        if self.lacks is not None:
            raise DialError("nothing left", stage="tcp", errno=self.lacks)
        await asyncio.sleep(TRIP)
        listener = Listener.open.get((host, port))
        note_reached()
        if listener is None:
            code = errno.ECONNREFUSED
            message = f"no connection to the server: {os.strerror(code)}"
            raise DialError(message, stage="tcp", errno=code)
        stream = listener.connect()
        if self._tls is not None:
            stream.route = Route(self._tls)
        return stream

    async def resolve(self, name: str) -> Sequence[str]:
        return (name,)
