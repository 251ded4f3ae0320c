"""Resolves the names that users visit, and keeps each answer as long as its TTL says.

The system's resolver is not used: it blocks a thread for each name that nobody answers for, and it
accepts odd spellings of loopback addresses.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from circumvent.errors import DestinationError, Reason
from circumvent.relay.egress.dns_query import Answer, query
from circumvent.wire.address import Destination, encode_name

USER_SHARE = 4  # one part in so many is for one user, so that silent names delay no other user
_LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ResolverLimits:
    """``tries`` are the seconds to wait for each try; nameservers take turns.

    ``queries`` may be under way at a time, each with a socket for A and one for AAAA.
    ``turn_seconds`` is the wait for a turn: a browser prefers an early error. ``names`` are the
    answers that are kept; the default is 2 MB.
    """

    tries: tuple[float, ...] = (1.0, 2.0, 3.0)
    queries: int = 256
    turn_seconds: float = 2.0
    names: int = 4096


@dataclass(slots=True)
class _Query:
    """A query under way; it goes on while anybody waits for its answer."""

    task: asyncio.Task[Answer]
    waiting: int = 0


class NameResolver:
    """Asks ``nameservers``; one query at a time for each name and user.

    Users share no answers: a user could tell by a faster answer what another user visits.
    ``now`` is a clock in seconds.
    """

    def __init__(
        self,
        nameservers: Sequence[Destination],
        now: Callable[[], float] = time.monotonic,
        limits: ResolverLimits | None = None,
    ) -> None:
        self._nameservers = nameservers
        self._now = now
        self._limits = limits = limits or ResolverLimits()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()  # by expiry
        self._queries: dict[tuple[str, str], _Query] = {}
        self._all_turns = asyncio.Semaphore(limits.queries)
        self._user_turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(limits.queries // USER_SHARE)
        )

    async def resolve(self, name: str, user: str) -> Sequence[str]:
        """IP addresses of ``name``, for ``user``; raises DestinationError."""
        name = _normal(name)
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
            return _LOOPBACK
        kept = self._kept.get((user, name))
        if kept is not None and kept[0] > self._now():
            answer = kept[1]
        else:
            answer = await self._join_query(user, name)
        if not answer.addresses:
            raise DestinationError(Reason.HOST_UNREACHABLE)
        return answer.addresses

    async def _join_query(self, user: str, name: str) -> Answer:
        """Wait for a query that others may wait for too; it ends when the last of them gives up."""
        shared = self._queries.get((user, name))
        if shared is None:
            task = asyncio.ensure_future(self._ask(user, name))
            shared = self._queries[user, name] = _Query(task)
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                del self._queries[user, name]
                shared.task.cancel()

    async def _ask(self, user: str, name: str) -> Answer:
        async with self._turn(user):
            for number, seconds in enumerate(self._limits.tries):
                nameserver = self._nameservers[number % len(self._nameservers)]
                kinds = [query(nameserver, name, kind, seconds) for kind in ("A", "AAAA")]
                found = [answer for answer in await asyncio.gather(*kinds) if answer is not None]
                if found:
                    answer = _joined(found)
                    self._keep(user, name, answer)
                    return answer
        raise DestinationError(Reason.TIMED_OUT)

    def _keep(self, user: str, name: str, answer: Answer) -> None:
        self._kept[user, name] = self._now() + answer.seconds, answer
        self._kept.move_to_end((user, name))
        if len(self._kept) > self._limits.names:
            self._kept.popitem(last=False)

    @asynccontextmanager
    async def _turn(self, user: str) -> AsyncIterator[None]:
        """Wait for a turn among the user's own queries, then among all queries."""
        async with AsyncExitStack() as turns:
            try:
                async with asyncio.timeout(self._limits.turn_seconds):
                    await turns.enter_async_context(self._user_turns[user])
                    await turns.enter_async_context(self._all_turns)
            except TimeoutError:
                raise DestinationError(Reason.TIMED_OUT) from None
            yield


def _joined(found: Sequence[Answer]) -> Answer:
    """IPv4 and IPv6 addresses together, kept for the shorter TTL of those that exist."""
    given = [answer for answer in found if answer.addresses] or found
    addresses = tuple(address for answer in given for address in answer.addresses)
    return Answer(min(answer.seconds for answer in given), addresses)


def _normal(name: str) -> str:
    """``name`` in lower case and ASCII, without a last dot; raises DestinationError."""
    try:
        return encode_name(name).decode().lower().rstrip(".")
    except ValueError:
        raise DestinationError(Reason.HOST_UNREACHABLE) from None
