"""Bundles on the web: mirrors, fronted hosts, and subscriptions."""

from __future__ import annotations

from collections.abc import Sequence

from circumvent.api import Channel, hookimpl
from circumvent_plugins.web_channels.fronts import FrontedChannel
from circumvent_plugins.web_channels.mirrors import HttpsChannel, SubscriptionChannel


@hookimpl
def circumvent_channels() -> Sequence[Channel]:
    """Offer what is fetched by HTTPS."""
    return HttpsChannel(), FrontedChannel(), SubscriptionChannel()
