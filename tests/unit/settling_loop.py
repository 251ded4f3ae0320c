"""An event loop that closes once its connections have ended."""

from __future__ import annotations

import asyncio
from typing import Any

PATIENCE = 5.0  # seconds; TLS waits that long for the peer's close_notify at most
ABORTED = 0.1  # seconds; an aborted connection ends in the next turn of the loop


class SettlingLoop(asyncio.SelectorEventLoop):
    """Closing it waits for connections that are being closed; a forgotten one is an error.

    Without this a connection whose end is still to be handled dies with the loop, and the garbage
    collector complains of it in whatever test runs then.
    """

    def close(self) -> None:
        if self.is_closed():
            return
        forgotten: list[str] = []
        if self._open():
            forgotten = self.run_until_complete(self._settle())
        super().close()
        assert not forgotten, f"connections that nobody closed: {forgotten}"

    def _open(self) -> list[Any]:
        """The transports that still have their socket; there is no public way to know."""
        transports: Any = self._transports  # type: ignore[attr-defined]
        return [each for each in transports.values() if each._sock is not None]  # noqa: SLF001

    async def _settle(self) -> list[str]:
        """Wait for connections that end; those that do not are aborted, and named."""
        await self._until_ended(PATIENCE)
        forgotten = self._open()
        names = [repr(each) for each in forgotten]
        for transport in forgotten:
            transport.abort()
        await self._until_ended(ABORTED)
        return names

    async def _until_ended(self, seconds: float) -> None:
        end = self.time() + seconds
        while self._open() and self.time() < end:  # noqa: ASYNC110 - the loop has no event for it
            await asyncio.sleep(0.001)
