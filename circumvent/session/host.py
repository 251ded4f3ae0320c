"""The relay's end of all sessions: accepts carriers, and connects streams to destinations."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from circumvent.api.streams import ByteStream
from circumvent.errors import CircumventError, DestinationError
from circumvent.memory import Account
from circumvent.session.engine.limits import KEPT_SECONDS, SessionLimits
from circumvent.session.handshake import receive_hello, send_refusal, send_welcome
from circumvent.session.join import join
from circumvent.session.reset_reasons import RESET_REASONS
from circumvent.session.session import Session
from circumvent.session.session_stream import SessionStream
from circumvent.tasks import dismiss
from circumvent.wire.address import Destination
from circumvent.wire.frames import CloseReason, ResetReason
from circumvent.wire.hello import Create, Hello, is_proven
from circumvent.wire.opening import parse_opening

HELLO_SECONDS = 10.0  # after the knock; a slow network needs a few round trips
FIRST_RTT = 0.1  # seconds; a carrier's round trip until its first PONG
MAX_CARRIERS = 16  # of one session; a client keeps three
_NUMBERS = 64  # carriers may arrive in another order than they were dialed

Verify = Callable[[bytes, bytes], str | None]
OpenDestination = Callable[[str, Destination], Awaitable[ByteStream]]


@dataclass(eq=False, slots=True)
class Hosted:
    """One session; ``user`` is the one that the credential names."""

    session: Session
    user: str
    secret: bytes = field(repr=False)
    numbers: set[int]
    expiry: asyncio.TimerHandle | None = None
    bytes_up: int = 0
    bytes_down: int = 0

    def claim(self, number: int) -> bool:
        """Whether a carrier's number was never used before; it is used from now on."""
        highest = max(self.numbers)
        if number in self.numbers or number <= highest - _NUMBERS:
            return False
        self.numbers.add(number)
        self.numbers -= {each for each in self.numbers if each <= highest - _NUMBERS}
        return True

    def sent_up(self, count: int) -> None:
        """Bytes went to a destination."""
        self.bytes_up += count

    def sent_down(self, count: int) -> None:
        """Bytes came from a destination."""
        self.bytes_down += count


class SessionHost:
    """All sessions of a relay.

    ``verify(credential, binding)`` returns the user's name, or None if there is no such user.
    ``open_destination(user, destination)`` connects; raises DestinationError and other
    CircumventErrors. ``may_begin(user)`` says whether the user may have one more session.
    """

    def __init__(
        self,
        account: Account,
        limits: SessionLimits,
        verify: Verify,
        open_destination: OpenDestination,
        may_begin: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.sessions: dict[bytes, Hosted] = {}
        self.is_draining = False
        self._account = account
        self._limits = limits
        self._verify = verify
        self._open_destination = open_destination
        self.may_begin = may_begin
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve_carrier(
        self, stream: ByteStream, binding: bytes, authenticated: Callable[[], None] = lambda: None
    ) -> None:
        """Serve a carrier until it ends, if it may join; owns ``stream``; raises nothing.

        ``authenticated`` is called when the client has proved which user or session it is.
        """
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello, leftover = await receive_hello(stream, self._account)
                answer = self._admit(hello, binding)
                if isinstance(answer, CloseReason):
                    await send_refusal(stream, self._account, answer)
                    return
                authenticated()
                await send_welcome(stream, self._account, self._limits.streams)
        except (CircumventError, TimeoutError):
            stream.abort()
            return
        except BaseException:
            stream.abort()
            raise
        carrier_io = answer.session.attach(hello.number, stream, FIRST_RTT, leftover)
        await carrier_io.wait_closed()

    async def aclose(self) -> None:
        """End all sessions."""
        await asyncio.gather(
            *(each.session.aclose(CloseReason.DRAINING) for each in tuple(self.sessions.values()))
        )
        await dismiss(self._tasks)

    # --- which carriers may join-------------------------------------------------------------------

    def _admit(self, hello: Hello, binding: bytes) -> Hosted | CloseReason:
        hosted = self.sessions.get(hello.session)
        if isinstance(hello, Create):
            user = self._verify(hello.credential, binding)
            if user is None:
                return CloseReason.REFUSED
            return self._create(hello, user) if hosted is None else _join(hosted, hello, user)
        if hosted is None or not is_proven(hello, hosted.secret, binding):
            return CloseReason.UNKNOWN_SESSION
        return _claim(hosted, hello.number)

    def _create(self, hello: Create, user: str) -> Hosted | CloseReason:
        if self.is_draining:
            return CloseReason.DRAINING
        if not self.may_begin(user):
            return CloseReason.BUSY
        hosted = Hosted(
            Session(
                self._account,
                self._limits,
                is_client=False,
                opened=lambda stream, opening: self._opened(hosted, stream, opening),
                changed=lambda: self._changed(hello.session, hosted),
            ),
            user,
            hello.secret,
            {hello.number},
        )
        self.sessions[hello.session] = hosted
        self._changed(hello.session, hosted)
        return hosted

    def _changed(self, name: bytes, hosted: Hosted) -> None:
        """Forget a session that is over, or that has no carriers for too long."""
        session = hosted.session
        if session.closed is not None:
            if self.sessions.pop(name, None) is not None:
                self._start(session.aclose())
        elif session.carriers:
            if hosted.expiry is not None:
                hosted.expiry.cancel()
                hosted.expiry = None
        elif hosted.expiry is None:
            expire = session.close
            hosted.expiry = session.loop.call_later(KEPT_SECONDS, expire, CloseReason.DONE)

    # --- destinations of streams----------------------------------------------------------------

    def _opened(self, hosted: Hosted, stream: SessionStream, opening: bytes) -> None:
        if self.is_draining:
            stream.cut(ResetReason.DRAINING)
        else:
            self._start(self._carry(hosted, stream, opening))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, hosted: Hosted, stream: SessionStream, opening: bytes) -> None:
        try:
            far = await self._reach(hosted.user, stream, opening)
        except DestinationError as error:
            stream.cut(RESET_REASONS[error.reason])
        except CircumventError:
            stream.cut(ResetReason.FAILURE)
        except BaseException:
            stream.cut(ResetReason.FAILURE)
            raise
        else:
            await join(stream, far, self._account, hosted.sent_up, hosted.sent_down)

    async def _reach(self, user: str, stream: SessionStream, opening: bytes) -> ByteStream:
        """Connect to the destination; cancelled when the client gives the stream up meanwhile.

        Otherwise a client could open and reset streams for nothing, and the relay pay with sockets.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the checker
        with stream.while_wanted(task.cancel):
            return await self._open_destination(user, parse_opening(opening))


def _join(hosted: Hosted, hello: Create, user: str) -> Hosted | CloseReason:
    """A client may dial several carriers before it has a WELCOME: the same secret proves each."""
    if user != hosted.user or not hmac.compare_digest(hello.secret, hosted.secret):
        return CloseReason.REFUSED
    return _claim(hosted, hello.number)


def _claim(hosted: Hosted, number: int) -> Hosted | CloseReason:
    if len(hosted.session.carriers) >= MAX_CARRIERS:
        return CloseReason.BUSY
    return hosted if hosted.claim(number) else CloseReason.REFUSED
