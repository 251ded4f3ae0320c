"""What a v2ray-style link says of its connection: ``security``, ``type`` (carriage), ``flow``.

Links of VLESS and Trojan differ in user and header only; the rest of their query is read here,
once, as other programs read it. A new carriage is a layer and an entry in ``CARRIAGES``, a new
security one in ``SECURITIES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from circumvent.api import Cost, Dialer, Layer, Privacy
from circumvent.api.layer import Dial
from circumvent.errors import LinkError, UnsupportedError
from circumvent.layers.stack import stack_cost, stacked
from circumvent.links.carriages import (
    CARRIAGES,
    Carriage,
    Parameters,
    TakeCarriage,
    TcpCarriage,
    take_carriage,
)
from circumvent.links.query import OFF, LinkQuery, find_word, lacking
from circumvent.links.reality_settings import take_reality
from circumvent.links.tls_settings import take_tls

NONE, TLS, REALITY = "none", "tls", "reality"  # of ``security``
VISION = "xtls-rprx-vision"  # a flow
# A link that was spoiled keeps this word, wherever it went.
_ASKS_FOR_SECURITY = re.compile(r"security\W{0,4}(?:3d)?(?:tls|reality|xtls)", re.IGNORECASE)


class Security(Protocol):
    """What secures the connection itself."""

    @property
    def server_name(self) -> str:
        """The name that it asks the server for; empty where it asks for none."""
        ...

    @property
    def privacy(self) -> Privacy:
        """What a watcher of the connection can see."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What the user gave up, or does not get, by these parameters."""
        ...

    def layers(self, alpn: tuple[str, ...]) -> tuple[Layer, ...]:
        """The layers that secure a stream so; they offer ``alpn``, or the link's if it is empty."""
        ...

    def query(self, host: str) -> Iterable[tuple[str, str]]:
        """The parameters from which the same value is read."""
        ...


TakeSecurity = Callable[[LinkQuery, str], Security]


@dataclass(frozen=True, slots=True)
class NoSecurity:
    """Nothing secures the connection."""

    server_name: str = ""
    privacy: Privacy = Privacy.PLAIN
    warnings: Sequence[str] = (
        "security=none: anybody in between can see where every stream leads",
    )

    def layers(self, alpn: tuple[str, ...]) -> tuple[Layer, ...]:  # noqa: ARG002 - of TLS
        """No layer."""
        return ()

    def query(self, host: str) -> Parameters:  # noqa: ARG002 - of TLS
        """Said, for it is not the default of every protocol."""
        return (("security", NONE),)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What goes over the connection to a server; ``notes`` say what of the link was not clear."""

    security: Security
    carriage: Carriage
    notes: tuple[str, ...] = field(default=(), compare=False)
    flow: str = ""  # ``VISION``, or none

    @property
    def privacy(self) -> Privacy:
        """What a watcher of the connection can see."""
        return self.security.privacy

    @property
    def warnings(self) -> Sequence[str]:
        """What the user gave up, or does not get, by these parameters."""
        return (*self.security.warnings, *self.notes)

    def layers(self) -> tuple[Layer, ...]:
        """What every connection goes through, the lowest first."""
        return (*self.security.layers(self.carriage.alpn), *self.carriage.layers())

    def dial(self, dialer: Dialer, host: str, port: int) -> Dial:
        """Dials the server through all layers, over what ``dialer`` gives."""
        layers = (layer.through(dialer) for layer in self.layers())
        return stacked(partial(dialer.tcp, host, port), layers)

    @property
    def cost(self) -> Cost:
        """The most that one stream allocates outside of the arena."""
        return stack_cost(self.layers())

    def query(self, host: str) -> Parameters:
        """The parameters from which the same value is read."""
        flow = (("flow", self.flow),) if self.flow else ()
        return (*self.security.query(host), *self.carriage.query(), *flow)


def _take_none(query: LinkQuery, host: str) -> NoSecurity:  # noqa: ARG001 - as the others
    query.take("ech")  # what belongs to TLS asks for nothing without it
    if query.is_hidden(_ASKS_FOR_SECURITY):
        raise LinkError("security: stands within another part; copy the link again")
    return NoSecurity()


def _refuse_xtls(query: LinkQuery, host: str) -> Security:  # noqa: ARG001 - as the others
    raise UnsupportedError("security=xtls was removed everywhere; ask for another link")


SECURITIES: Mapping[str, TakeSecurity] = {
    NONE: _take_none,
    **dict.fromkeys(OFF, _take_none),
    TLS: take_tls,
    REALITY: take_reality,
    "xtls": _refuse_xtls,
}


def take_stream_settings(
    query: LinkQuery,
    host: str,
    default: str = NONE,
    carriages: Mapping[str, TakeCarriage] = CARRIAGES,
) -> StreamSettings:
    """Take the parameters of security, carriage and flow out of ``query``.

    ``host`` is the server's, ``default`` the security of a link that names none. Raises LinkError,
    and UnsupportedError for what is asked for and lacking.
    """
    security = SECURITIES[_take_security_word(query, default)](query, host)
    carriage = take_carriage(query, security.server_name or host, carriages)
    flow = _take_flow(query, security, carriage)
    return StreamSettings(security, carriage, tuple(query.notes), flow)


def _take_security_word(query: LinkQuery, default: str) -> str:
    """The first value of ``security`` that asks for one; ``tls=1`` is an older form."""
    written = query.take_all("security") + query.take_all("tls")
    words = [TLS if value in ("1", "true") else find_word(value, SECURITIES) for value in written]
    if "" in words:
        raise lacking("security", written[words.index("")])
    asked = [word for word in words if SECURITIES[word] is not _take_none]
    return (asked or words or [default])[0]


def _take_flow(query: LinkQuery, security: Security, carriage: Carriage) -> str:
    """A server refuses streams without flow to a user who has one."""
    flow = query.take("flow").strip().lower()
    if not flow.startswith("xtls-"):
        return ""  # what no program knows asks for nothing
    if isinstance(security, NoSecurity):
        raise LinkError("flow: needs TLS or REALITY, and the link has neither; ask for another")
    if not isinstance(carriage, TcpCarriage):
        query.notes.append("flow: means nothing over this carriage; it is left out")
        return ""
    if flow.startswith(VISION):  # what may follow is about UDP
        return VISION
    raise UnsupportedError("flow: that one was removed everywhere; ask for another link")
