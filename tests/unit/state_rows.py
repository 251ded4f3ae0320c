"""What tests of the state file keep in it."""

from __future__ import annotations

from circumvent.state.attempts import Attempt
from circumvent.state.servers import SavedServer

LINK = "ss://c2VjcmV0@192.0.2.7:8388"
BEN = SavedServer("b", "shadowsocks", "Ben", LINK)


def an_attempt(number: int = 0, server: str = "a1b2c3") -> Attempt:
    return Attempt(
        at=1000.0 + number, what="probe", server=server, stage="tls", outcome="failed", errno=104
    )
