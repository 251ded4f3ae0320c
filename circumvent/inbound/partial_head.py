"""An answer's head that came without its end, and is held until that comes."""

from __future__ import annotations

import asyncio

from circumvent.api.streams import ByteStream
from circumvent.errors import DestinationError, Reason
from circumvent.memory import Account, Lease
from circumvent.net.pump import FIRST_READ
from circumvent.wire.http_forwarding import bad_answer


class PartialHead:
    """Reads an origin's answer block by block; ``size`` bytes of a head are held in between.

    ``seconds`` is how long the rest of a head that has begun may take.
    """

    __slots__ = ("_account", "_deadline", "_held", "_seconds", "size")

    def __init__(self, account: Account, seconds: float) -> None:
        self._account = account
        self._seconds = seconds
        self._deadline: float | None = None
        self._held: Lease | None = None
        self.size = 0

    async def wait_for_more(self, origin: ByteStream) -> None:
        """Wait for more of the answer; raises DestinationError when a head's rest is too late."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await origin.wait_readable()
        except TimeoutError:
            raise DestinationError(Reason.TIMED_OUT) from None

    async def read(self, origin: ByteStream) -> tuple[Lease, int]:
        """A block with all that has come of the head, and where that ends.

        Raises as ``read_into``, BudgetError, and ProtocolError when the answer ends before.
        """
        most = max(origin.record, FIRST_READ + origin.overhead)
        lease = await self._account.step(origin.record, most)
        try:
            count = origin.read_into(lease.view[:most])
            if count == 0:
                raise bad_answer("it ends before its head does" if self.size else "there is none")
            return self._joined(lease, count or 0)
        except BaseException:
            lease.release()
            raise

    def _joined(self, lease: Lease, count: int) -> tuple[Lease, int]:
        if self._held is None:
            return lease, count
        start, end = self.size, self.size + count
        whole = self._account.hold(end)
        whole.view[:start] = self._held.view[:start]
        whole.view[start:end] = lease.view[:count]
        lease.release()
        self.release()
        return whole, end

    def keep(self, view: memoryview) -> None:
        """Hold ``view`` as the beginning of a head; empty when none has begun."""
        if not view:
            self._deadline = None
            return
        self._held = self._account.hold(len(view))
        self._held.view[: len(view)] = view
        self.size = len(view)
        self._deadline = self._deadline or asyncio.get_running_loop().time() + self._seconds

    def release(self) -> None:
        """Give back what is held; idempotent."""
        if self._held is not None:
            self._held.release()
            self._held = None
            self.size = 0
