"""Which sources can be asked, and the memory that all fetches share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from circumvent.api import Channel
from circumvent.discovery.hunt import DiscoverySource
from circumvent.errors import CircumventError, LinkError
from circumvent.memory import Account, Memory

ACCOUNT_SHARE = 1.5  # of the costliest channel: where memory is short, a second one waits
BUDGET_SHARE = 8  # an eighth of all memory may be used for fetches, where that is more
LISTS_SHARE = 4  # a quarter of all memory may hold lists, the old one beside the new one
FETCH_BUFFERS = 64 * 1024  # bytes of the arena that fetches may hold besides


def discovery_account(memory: Memory, channels: Mapping[str, Channel]) -> Account:
    """The account of all fetches: its limit keeps channels from adding up."""
    costliest = max((channel.cost.dial for channel in channels.values()), default=0)
    share = max(int(ACCOUNT_SHARE * costliest), memory.budget // BUDGET_SHARE)
    return memory.account("discovery", limit=min(share + FETCH_BUFFERS, memory.budget))


def lists_account(memory: Memory) -> Account:
    """The account of all subscriptions' lists that are kept or read."""
    return memory.account("server lists", limit=memory.budget // LISTS_SHARE)


def usable_sources(
    urls: Iterable[str], channels: Mapping[str, Channel]
) -> tuple[list[DiscoverySource], list[str]]:
    """The sources that some channel reads, and what is wrong with the others."""
    sources: list[DiscoverySource] = []
    problems: list[str] = []
    for url in urls:
        scheme = url.partition(":")[0].lower()
        try:
            channel = channels.get(scheme)
            if channel is None:
                raise LinkError(f"no channel reads {scheme[:16]}: sources")
            channel.check(url)
        except CircumventError as error:
            problems.append(f"a source is left out: {error}")
        else:
            sources.append(DiscoverySource(url, channel))
    return sources, problems
