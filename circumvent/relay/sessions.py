"""The sessions of a relay's users: who may begin one, and what their streams may open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from circumvent.api.streams import ByteStream
from circumvent.errors import BudgetError, DestinationError
from circumvent.memory import Account
from circumvent.relay.config import RelayLimits, UserEntry
from circumvent.relay.egress.dialer import EgressDialer
from circumvent.relay.status import UserStatus
from circumvent.relay.users.meter import MeteredStream
from circumvent.relay.users.users import User, Users
from circumvent.session.engine.limits import SessionLimits
from circumvent.session.host import Hosted, SessionHost
from circumvent.wire.address import Destination
from circumvent.wire.frames import CloseReason


class UserSessions:
    """Holds each user to the user's own limits; ``refused`` counts failed streams by reason.

    ``egress`` opens the destinations; it may be replaced for the streams that come later.
    """

    def __init__(self, account: Account, limits: SessionLimits, egress: EgressDialer) -> None:
        self.users = Users()
        self.egress = egress
        self.refused: Counter[str] = Counter()
        self.host = SessionHost(account, limits, self.users.verify, self._open, self._may_begin)

    def replace_users(self, entries: Sequence[UserEntry], limits: RelayLimits) -> None:
        """Admit exactly these users, with ``limits`` for those that have no own.

        Sessions of users who are removed, or have another token now, are closed.
        """
        tokens = {user.name: user.token for user in self.users.by_name.values()}
        self.users.replace(entries, limits)
        for hosted in tuple(self.host.sessions.values()):
            user = self.users.by_name.get(hosted.user)
            if user is None or user.token != tokens[hosted.user]:
                hosted.session.close(CloseReason.REFUSED)

    @property
    def has_streams(self) -> bool:
        """Whether any stream of any user is open."""
        return any(each.session.open_streams for each in self.host.sessions.values())

    def describe(self) -> tuple[UserStatus, ...]:
        """What ``relay status`` shows of each user."""
        return tuple(map(self._describe, self.users.by_name.values()))

    def _describe(self, user: User) -> UserStatus:
        sessions = self._sessions_of(user.name)
        return UserStatus(
            name=user.name,
            sessions=len(sessions),
            carriers=sum(len(each.session.carriers) for each in sessions),
            streams=user.meter.streams,
            bytes_up=user.meter.bytes_up,
            bytes_down=user.meter.bytes_down,
        )

    def _sessions_of(self, name: str) -> list[Hosted]:
        return [hosted for hosted in self.host.sessions.values() if hosted.user == name]

    def _may_begin(self, name: str) -> bool:
        """Whether the user may have one more session; closes one without carriers to make room."""
        user, sessions = self.users.by_name[name], self._sessions_of(name)
        if len(sessions) < user.limits.sessions:
            return True
        for hosted in sessions:
            if not hosted.session.carriers:
                hosted.session.close(CloseReason.DONE)
                return True
        return False

    async def _open(self, name: str, destination: Destination) -> ByteStream:
        user = self.users.by_name.get(name)
        if user is None or user.meter.streams >= user.limits.streams:
            raise BudgetError("the user has too many streams", stage="limit")
        user.meter.streams += 1  # before it is open: a user may ask faster than anybody answers
        try:
            return MeteredStream(await self.egress.open(destination, name), user.meter)
        except DestinationError as error:
            self.refused[error.reason.name.lower()] += 1
            raise
        finally:
            user.meter.streams -= 1
