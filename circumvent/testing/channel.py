"""What every Channel promises. Inherit from ``ChannelContract`` and provide its facts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from circumvent.api import Channel, ChannelError, Cost, Fetch, LinkError
from circumvent.memory import Memory
from circumvent.testing.dialers import RefusingDialer

ARENA = 1 << 20
GIVE_UP_AFTER = 30.0  # seconds; a channel gives up by itself long before
MAX_TIER = 2


class ChannelContract:
    """The promises of ``circumvent.api.Channel``.

    ``source`` is one that could be used and brings nothing while nothing can be reached,
    ``wrong_source`` one of the same scheme that cannot be used.
    """

    channel: Channel
    source: str
    wrong_source: str

    def test_schemes_are_in_lower_case_and_the_source_has_one_of_them(self) -> None:
        assert self.channel.schemes
        assert all(scheme == scheme.lower() for scheme in self.channel.schemes)
        assert self.source.partition(":")[0] in self.channel.schemes

    def test_its_facts_have_the_form_that_is_expected(self) -> None:
        assert isinstance(self.channel.cost, Cost)
        assert 0 <= self.channel.tier <= MAX_TIER
        assert self.channel.watch >= 0

    def test_a_source_is_checked_without_a_dial(self) -> None:
        self.channel.check(self.source)
        with pytest.raises(LinkError):
            self.channel.check(self.wrong_source)

    async def test_a_source_that_cannot_be_reached_is_a_channel_error(self) -> None:
        memory = Memory(ARENA)
        fetch = Fetch(self.source, RefusingDialer(), memory.account("test"))
        with pytest.raises(ChannelError):
            await self.fetch_all(fetch)
        assert (memory.leased, memory.charged) == (0, 0)

    async def fetch_all(self, fetch: Fetch) -> list[bytes]:
        async with asyncio.timeout(GIVE_UP_AFTER), aclosing(self.channel.fetch(fetch)) as bundles:
            return [bundle async for bundle in bundles]
