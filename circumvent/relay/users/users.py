"""The relay's users, and how a session's credential is verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from circumvent.relay.config import RelayLimits, UserEntry
from circumvent.relay.users.meter import Meter
from circumvent.wire.credential import CREDENTIAL_SIZE, USER_ID_SIZE, is_credential, user_id


@dataclass(slots=True)
class User:
    """One user; ``limits`` are the user's own, or those of the relay."""

    name: str
    token: bytes
    limits: RelayLimits
    meter: Meter


class Users:
    """The users, by name and by the user id in their credentials.

    ``meters`` include those of users who were removed, so that totals never shrink.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, User] = {}
        self.meters: list[Meter] = []
        self._by_id: dict[bytes, User] = {}

    def replace(self, entries: Iterable[UserEntry], limits: RelayLimits) -> None:
        """Admit exactly these users from now on; a user of the same name keeps the meter."""
        known, self.by_name = self.by_name, {}
        for entry in entries:
            own = entry.limits or limits
            before = known.get(entry.name)
            meter = before.meter if before else self._new_meter()
            meter.set_rate(own.bytes_per_second)
            self.by_name[entry.name] = User(entry.name, entry.raw_token, own, meter)
        self._by_id = {user_id(user.token): user for user in self.by_name.values()}

    def _new_meter(self) -> Meter:
        self.meters.append(meter := Meter())
        return meter

    def verify(self, credential: bytes, binding: bytes) -> str | None:
        """The name of the user who made ``credential`` for this channel binding; None if nobody."""
        if len(credential) != CREDENTIAL_SIZE:
            return None
        user = self._by_id.get(credential[:USER_ID_SIZE])
        if user is None or not is_credential(credential, user.token, binding):
            return None
        return user.name
