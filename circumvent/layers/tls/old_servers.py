"""Which servers speak no TLS 1.3, so that OpenSSL serves them."""

from __future__ import annotations

from circumvent.layers.tls.tickets import TicketScope

MOST = 64  # servers that are remembered


class OldServers:
    """Remembered while the program runs."""

    def __init__(self) -> None:
        self._scopes: dict[TicketScope, None] = {}  # the latest last

    def __contains__(self, scope: TicketScope) -> bool:
        return scope in self._scopes

    def add(self, scope: TicketScope) -> None:
        """The server at this place spoke no TLS 1.3; the oldest of too many is forgotten."""
        self._scopes[scope] = None
        if len(self._scopes) > MOST:
            del self._scopes[next(iter(self._scopes))]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user gives up with each of them."""
        names = dict.fromkeys(scope.options.server_name for scope in self._scopes)
        return tuple(
            f"{name} speaks no TLS 1.3: OpenSSL speaks with it, and the ClientHello is that of"
            " Python instead of a browser's"
            for name in names
        )
