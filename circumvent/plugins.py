"""Finds plugins by entry point and loads them one by one.

A plugin is code that may do whatever the user may do. So a distribution other than our own is
loaded only when the configuration names it, and that is checked before its code is touched. A
broken plugin is left out whole and reported by name; the others work.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TypeVar

import pluggy

from circumvent.api import Carrier, Channel, Transport, hooks
from circumvent.errors import PluginError
from circumvent.tunnels.relay_transport import RelayTransport

ENTRY_POINT_GROUP = "circumvent"
OWN_DISTRIBUTION = "circumvent"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")  # RFC 3986 section 3.1, lower case
_REASON_LENGTH = 200  # a reason is one line of `status`, not a traceback

_Offer = TypeVar("_Offer", Transport, Channel, Carrier)


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """A plugin that was left out: its entry point, its distribution, and why."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plugins:
    """What the loaded plugins offer, and which were left out.

    ``transports`` are keyed by link scheme, ``channels`` by the scheme of their sources,
    ``carriers`` by name. The transport to relays is no plugin: it is made of all carriers.
    """

    transports: Mapping[str, Transport]
    channels: Mapping[str, Channel]
    carriers: Mapping[str, Carrier]
    problems: tuple[PluginProblem, ...]

    def with_relays(self, relay: RelayTransport) -> Mapping[str, Transport]:
        """All transports by link scheme, ``relay`` among them."""
        return MappingProxyType({**self.transports, **dict.fromkeys(relay.schemes, relay)})


def load_plugins(allow: Iterable[str] = ()) -> Plugins:
    """Load our own plugins and those of the distributions in ``allow``; never raises."""
    allowed = {OWN_DISTRIBUTION, *map(_normalized, allow)}
    registry = _Registry()
    problems = []
    for entry, distribution in _own_first(entry_points(group=ENTRY_POINT_GROUP)):
        try:
            registry.add(_load(entry, distribution, allowed))
        except PluginError as error:
            problems.append(PluginProblem(entry.name, distribution, str(error)))
    return Plugins(
        transports=MappingProxyType(registry.transports),
        channels=MappingProxyType(registry.channels),
        carriers=MappingProxyType(registry.carriers),
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True)
class _Offers:
    transports: tuple[Transport, ...]
    channels: tuple[Channel, ...]
    carriers: tuple[Carrier, ...]


class _Registry:
    """What was accepted so far; a plugin is put here whole or not at all."""

    def __init__(self) -> None:
        self.carriers: dict[str, Carrier] = {}
        self.channels: dict[str, Channel] = {}
        self.transports: dict[str, Transport] = {}

    def add(self, offers: _Offers) -> None:
        transports = {RelayTransport.name, *(each.name for each in self.transports.values())}
        _claim("transport", transports, [transport.name for transport in offers.transports])
        schemes = {*RelayTransport.schemes, *self.transports}
        _claim("link scheme", schemes, [s for t in offers.transports for s in t.schemes])
        channels = {channel.name for channel in self.channels.values()}
        _claim("channel", channels, [channel.name for channel in offers.channels])
        _claim("source scheme", self.channels, [s for c in offers.channels for s in c.schemes])
        _claim("carrier", self.carriers, [carrier.name for carrier in offers.carriers])
        self.transports |= {s: t for t in offers.transports for s in t.schemes}
        self.channels |= {s: c for c in offers.channels for s in c.schemes}
        self.carriers.update({carrier.name: carrier for carrier in offers.carriers})


def _claim(kind: str, taken: Iterable[str], wanted: Sequence[str]) -> None:
    twice = {name for name in wanted if wanted.count(name) > 1} | {*taken} & {*wanted}
    if twice:
        raise PluginError(f"{kind} {min(twice)!r} is already taken")


def _load(entry: EntryPoint, distribution: str, allowed: set[str]) -> _Offers:
    if _normalized(distribution) not in allowed:
        raise PluginError(f"distribution {distribution!r} is not in plugins.allow")
    try:
        return _offers(entry.name, entry.load())
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise PluginError(reason[:_REASON_LENGTH]) from error


def _offers(name: str, plugin: object) -> _Offers:
    # One manager for each plugin: in a shared one, the first broken hook would stop all others.
    manager = pluggy.PluginManager(hooks.NAMESPACE)
    manager.add_hookspecs(hooks)
    manager.register(plugin, name)
    manager.check_pending()
    if not (manager.get_hookcallers(plugin) or []):
        raise PluginError("implements no hook; is @hookimpl missing?")
    return _Offers(
        transports=_checked(Transport, manager.hook.circumvent_transports),
        channels=_checked(Channel, manager.hook.circumvent_channels),
        carriers=_checked(Carrier, manager.hook.circumvent_carriers),
    )


def _checked(kind: type[_Offer], hook: pluggy.HookCaller) -> tuple[_Offer, ...]:
    offers: list[_Offer] = []
    for result in hook():
        if inspect.iscoroutine(result):
            result.close()
            raise PluginError(f"{hook.name} is async; hooks only return objects")
        if not isinstance(result, Sequence):
            raise PluginError(f"{hook.name} gave {type(result).__name__}, not a sequence")
        for item in result:
            if not isinstance(item, kind):
                raise PluginError(f"{hook.name} gave {type(item).__name__}, no {kind.__name__}")
            _check_facts(item)
            offers.append(item)
    return tuple(offers)


def _check_facts(offer: Transport | Channel | Carrier) -> None:
    kind = type(offer).__name__
    for fact in ("name", "cost"):
        if not hasattr(offer, fact):
            raise PluginError(f"{kind} lacks {fact!r}")
    if isinstance(offer, Carrier):
        return
    if isinstance(offer, Transport) and not callable(offer.cost):
        raise PluginError(f"{kind}.cost is a method: cost(entry)")
    if not isinstance(getattr(offer, "schemes", None), tuple) or not offer.schemes:
        raise PluginError(f"{kind} lacks 'schemes', a tuple of URL schemes")
    for scheme in offer.schemes:
        if not _SCHEME.fullmatch(scheme):
            raise PluginError(f"{kind}: {scheme!r} is not a lower-case URL scheme")


def _own_first(entries: Iterable[EntryPoint]) -> list[tuple[EntryPoint, str]]:
    """Each with its distribution's name; own plugins first, so that no other takes a scheme."""
    # Each look-up of the name parses the whole metadata of the distribution: so only one for each.
    name_of = cache(lambda distribution: distribution.name)
    named = [(entry, name_of(entry.dist) if entry.dist else "") for entry in entries]
    return sorted(named, key=lambda each: (each[1] != OWN_DISTRIBUTION, each[1], each[0].name))


def _normalized(distribution: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
