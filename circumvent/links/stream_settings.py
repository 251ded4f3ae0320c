"""What a v2ray-style link says of its connection: ``security``, ``type`` (carriage), ``flow``.

Links of VLESS and Trojan differ in user and header only; the rest of their query is read here,
once. A new carriage is a layer and an entry in ``CARRIAGES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from circumvent.api import Cost, Layer, Privacy
from circumvent.layers.stack import stack_cost
from circumvent.layers.tls.layer import TlsLayer
from circumvent.links.query import LinkQuery
from circumvent.links.tls_settings import TlsLink, refuse_tls, take_tls, tls_query, tls_warnings

Parameters = tuple[tuple[str, str], ...]
NONE, TLS = "none", "tls"  # of ``security``
_OF_OTHER_CARRIAGES = ("mode", "authority", "serviceName", "seed")


class Carriage(Protocol):
    """How a stream travels inside of its security: ``type`` and the parameters that go with it."""

    def layers(self) -> tuple[Layer, ...]:
        """The layers that carry a stream so, the lowest first."""
        ...

    def query(self) -> Parameters:
        """The parameters from which the same value is read."""
        ...


TakeCarriage = Callable[[LinkQuery], Carriage]


@dataclass(frozen=True, slots=True)
class TcpCarriage:
    """The bytes travel as they are."""

    def layers(self) -> tuple[Layer, ...]:
        """No layer."""
        return ()

    def query(self) -> Parameters:
        """No parameter: it is the default."""
        return ()


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What goes over the connection to a server; ``tls`` is None where nothing secures it."""

    tls: TlsLink | None
    carriage: Carriage

    @property
    def security(self) -> str:
        """The value of ``security`` in links."""
        return TLS if self.tls else NONE

    @property
    def privacy(self) -> Privacy:
        """What a watcher of the connection can see."""
        return Privacy.ENCRYPTED if self.tls and self.tls.authenticated else Privacy.PLAIN

    @property
    def warnings(self) -> Sequence[str]:
        """What the user gave up, or does not get, by these parameters."""
        if self.tls is None:
            return ("security=none: anybody in between can see where every stream leads",)
        return tls_warnings(self.tls)

    def layers(self) -> tuple[Layer, ...]:
        """What every connection goes through, the lowest first."""
        security = (TlsLayer(self.tls.options),) if self.tls else ()
        return (*security, *self.carriage.layers())

    @property
    def cost(self) -> Cost:
        """The most that one stream allocates outside of the arena."""
        return stack_cost(self.layers())

    def query(self, host: str) -> Parameters:
        """The parameters from which the same value is read, except ``security``."""
        return (*(tls_query(self.tls, host) if self.tls else ()), *self.carriage.query())


def _take_plain(query: LinkQuery) -> Carriage:
    query.choose("headerType", "none")
    query.choose("path", "/")
    query.choose("quicSecurity", "none")
    query.take("host")
    return TcpCarriage()


def _take_tcp(query: LinkQuery) -> Carriage:
    """Panels write down what belongs to other carriages even where there is none of them."""
    for key in _OF_OTHER_CARRIAGES:
        query.take(key)
    return _take_plain(query)


CARRIAGES: Mapping[str, TakeCarriage] = {
    "": _take_plain,
    "tcp": _take_tcp,
    "raw": _take_tcp,
    "original": _take_tcp,
}


def take_carriage(query: LinkQuery, carriages: Mapping[str, TakeCarriage] = CARRIAGES) -> Carriage:
    """Take ``type`` and what goes with it; raises UnsupportedError for what is not in the table."""
    return carriages[query.choose("type", *carriages)](query)


def take_stream_settings(
    query: LinkQuery,
    host: str,
    securities: Sequence[str] = (NONE, TLS),
    carriages: Mapping[str, TakeCarriage] = CARRIAGES,
) -> StreamSettings:
    """Take the parameters of security, carriage and flow out of ``query``.

    ``host`` is the server's; the first of ``securities`` is the default. Raises LinkError, and
    UnsupportedError for what is asked for and lacking.
    """
    security = query.choose("security", *securities)
    carriage = take_carriage(query, carriages)
    query.choose("flow", "", "none")  # servers refuse streams without flow to users who have one
    if security == TLS:
        return StreamSettings(take_tls(query, host), carriage)
    refuse_tls(query)
    return StreamSettings(None, carriage)
