"""Dialers for conformance suites: what a plugin does when the network does not help it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from circumvent.api import Datagrams, DialError, PeekStream


class RefusingDialer:
    """Nothing can be reached; counts who asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def tcp(self, host: str, port: int) -> PeekStream:  # noqa: ARG002 - a Dialer's
        self.asked += 1
        raise DialError("nothing can be reached in this test", stage="tcp")

    async def udp(self, host: str, port: int) -> Datagrams:  # noqa: ARG002 - a Dialer's
        self.asked += 1
        raise DialError("nothing can be reached in this test", stage="udp")

    async def resolve(self, name: str) -> Sequence[str]:  # noqa: ARG002 - a Dialer's
        self.asked += 1
        raise DialError("nothing can be resolved in this test", stage="resolve")


class HangingDialer(RefusingDialer):
    """Nobody ever answers."""

    async def tcp(self, host: str, port: int) -> PeekStream:
        self.asked += 1
        await asyncio.Event().wait()
        return await super().tcp(host, port)
