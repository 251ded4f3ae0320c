"""Resolves names of servers; names that a user visits are resolved at the far side.

The system's resolver is asked, for it alone knows of /etc/hosts, of nsswitch.conf(5) and of a VPN's
own names. Asking it blocks a thread, for half a minute when no name server answers: so nothing
waits for that thread, neither when the time is up nor when the program ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from circumvent.errors import DialError
from circumvent.net.patience import own_wait
from circumvent.threads import in_thread

_SERVERS = 256  # whose addresses are remembered
_KEPT_SECONDS = 300.0  # short enough for servers that move, long enough that few streams wait
TIMEOUT = 6.0  # seconds; a lost question is asked again after 5 (resolv.conf(5))
MAX_QUESTIONS = 32  # threads; in a race alone some questions hang every few seconds

Addresses = Sequence[str]


def _ask_system(name: str) -> Addresses:
    """Blocks; raises OSError, or ValueError for what cannot be a name."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[4][0]) for address in found))


class Resolver:
    """Resolves servers' names by ``ask``, which may block, and keeps the answers for a while.

    ``timeout``: seconds for one answer; ``max_questions``: threads at a time.

    A second question for the same name waits for the first one's answer. An answer that comes too
    late is kept for the next question. An answer that has grown old, or was doubted, is still used
    when no new one comes: name servers fail more often than servers move.
    """

    def __init__(
        self,
        ask: Callable[[str], Addresses] = _ask_system,
        timeout: float = TIMEOUT,
        max_questions: int = MAX_QUESTIONS,
    ) -> None:
        self._ask = ask
        self._timeout = timeout
        self._kept: dict[str, tuple[float, Addresses]] = {}  # until when; the latest last
        self._asked: dict[str, asyncio.Task[Addresses]] = {}
        self._turns = asyncio.Semaphore(max_questions)

    async def resolve(self, name: str) -> Addresses:
        """IP addresses of ``name``, in the system's order; raises DialError."""
        known = self.known(name)
        if known is not None:
            return known
        try:
            return await self._ask_in_time(name)
        except DialError:
            if name in self._kept:
                return self._kept[name][1]
            raise

    async def _ask_in_time(self, name: str) -> Addresses:
        question = self._question(name)
        with own_wait():  # the server is not asked yet
            await asyncio.wait((question,), timeout=self._timeout)
        if not question.done():
            raise DialError(
                "the server's name does not resolve: no name server answered in time",
                stage="resolve",
            )
        try:
            return question.result()
        except (OSError, ValueError) as error:
            code = error.errno if isinstance(error, OSError) else None
            raise DialError(
                "the server's name does not resolve", stage="resolve", errno=code
            ) from error

    def known(self, name: str) -> Addresses | None:
        """The addresses that ``resolve`` would return without asking; None when it would ask."""
        if _is_address(name):
            return (name,)
        until, addresses = self._kept.get(name, (0.0, ()))
        return addresses if time.monotonic() < until else None

    def doubt(self, name: str) -> None:
        """Ask anew next time: the addresses that are known do not answer."""
        if name in self._kept:
            self._kept[name] = 0.0, self._kept[name][1]

    def forget_all(self) -> None:
        """Ask anew for every name; answers that are under way are not kept."""
        self._kept.clear()
        self._asked.clear()

    def _question(self, name: str) -> asyncio.Task[Addresses]:
        question = self._asked.get(name)
        if question is None:
            question = asyncio.get_running_loop().create_task(self._answer(name))
            question.add_done_callback(lambda done: self._keep(name, done))
            self._asked[name] = question
        return question

    async def _answer(self, name: str) -> Addresses:
        async with self._turns:
            return await in_thread(self._ask, name)

    def _keep(self, name: str, question: asyncio.Task[Addresses]) -> None:
        is_current = self._asked.get(name) is question
        if is_current:
            del self._asked[name]
        if not question.cancelled() and question.exception() is None and is_current:
            self._kept.pop(name, None)
            self._kept[name] = time.monotonic() + _KEPT_SECONDS, question.result()
            if len(self._kept) > _SERVERS:
                del self._kept[next(iter(self._kept))]


@lru_cache(maxsize=_SERVERS)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
