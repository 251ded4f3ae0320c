"""What every Transport promises. Inherit from ``TransportContract`` and provide its facts."""

from __future__ import annotations

import asyncio

import pytest

from circumvent.api import (
    Cost,
    DialError,
    LinkError,
    NetworkDialer,
    Privacy,
    ServerEntry,
    Transport,
    Tunnel,
    UnsupportedError,
)
from circumvent.memory import Memory
from circumvent.testing.dialers import HangingDialer, RefusingDialer
from circumvent.wire.address import Destination

ARENA = 1 << 20
LOOKS = 200  # at a task that should have begun to dial
DESTINATION = Destination("visited.example", 443)


class TransportContract:
    """The promises of ``circumvent.api.Transport``.

    ``transport`` is the one under test, ``link`` one of its links, without a name, and ``secret``
    what nobody may see of it: empty where there is none.
    """

    transport: Transport
    link: str
    secret: str = ""

    @property
    def entry(self) -> ServerEntry:
        return self.transport.parse(self.link)

    def test_schemes_are_in_lower_case_and_the_link_has_one_of_them(self) -> None:
        assert self.transport.schemes
        assert all(scheme == scheme.lower() for scheme in self.transport.schemes)
        assert self.link.partition("://")[0] in self.transport.schemes

    def test_the_canonical_link_gives_the_same_entry(self) -> None:
        entry = self.entry
        assert entry.transport == self.transport.name
        assert self.transport.parse(entry.link) == entry

    def test_a_name_changes_no_id(self) -> None:
        named = self.transport.parse(f"{self.link}#a%20name")
        assert named.id == self.entry.id

    def test_the_secret_is_never_shown(self) -> None:
        if self.secret:
            assert self.secret in self.link
            assert self.secret not in repr(self.entry) + repr(self.entry.settings)

    @pytest.mark.parametrize("wrong", ["other-scheme", "@", "#"])
    def test_a_wrong_link_is_refused_and_not_repeated(self, wrong: str) -> None:
        text = f"{wrong}://{self.secret or 'secret'}"
        with pytest.raises((LinkError, UnsupportedError)) as refused:
            self.transport.parse(text)
        assert (self.secret or "secret") not in str(refused.value)

    def test_what_is_asked_for_and_lacking_is_refused(self) -> None:
        joint = "&" if "?" in self.link else "?"
        with pytest.raises((LinkError, UnsupportedError)):
            self.transport.parse(f"{self.link}{joint}plugin=x-unheard-of")

    def test_what_can_be_seen_is_warned_of(self) -> None:
        privacy = self.transport.privacy(self.entry)
        assert isinstance(privacy, Privacy)
        if privacy is not Privacy.ENCRYPTED:
            assert self.transport.warnings(self.entry)

    def test_the_cost_is_known_before_a_dial(self) -> None:
        cost = self.transport.cost(self.entry)
        assert isinstance(cost, Cost)
        assert min(cost.dial, cost.stream) >= 0

    async def test_a_server_that_cannot_be_reached_is_a_dial_error(self) -> None:
        dialer, memory = RefusingDialer(), Memory(ARENA)
        with pytest.raises(DialError):
            await self.open(dialer, memory)
        assert dialer.asked
        assert (memory.leased, memory.charged) == (0, 0)

    async def test_a_dial_that_is_given_up_leaves_nothing(self) -> None:
        dialer, memory = HangingDialer(), Memory(ARENA)
        opening = asyncio.ensure_future(self.open(dialer, memory))
        for _ in range(LOOKS):
            await asyncio.sleep(0)
        assert dialer.asked
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert (memory.leased, memory.charged) == (0, 0)

    async def open(self, dialer: NetworkDialer, memory: Memory) -> Tunnel:
        """Connect, and open one stream."""
        tunnel = await self.transport.connect(self.entry, dialer, memory.account("test"))
        try:
            stream = await tunnel.open(DESTINATION)
        finally:
            await tunnel.aclose()
        stream.abort()
        return tunnel
