"""The hooks that a plugin may implement. They only register: each returns ready objects."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from circumvent.api.carrier import Carrier
from circumvent.api.channel import Channel
from circumvent.api.transport import Transport

NAMESPACE = "circumvent"

hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec
def circumvent_transports() -> Sequence[Transport]:  # type: ignore[empty-body]
    """Transports that this plugin offers."""


@hookspec
def circumvent_channels() -> Sequence[Channel]:  # type: ignore[empty-body]
    """Discovery channels that this plugin offers."""


@hookspec
def circumvent_carriers() -> Sequence[Carrier]:  # type: ignore[empty-body]
    """Carriers of bonded sessions that this plugin offers."""
