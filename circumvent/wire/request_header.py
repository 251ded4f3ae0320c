"""Request headers: turn a destination into the first bytes of a stream."""

from __future__ import annotations

from collections.abc import Callable

from circumvent.errors import DestinationError, Reason
from circumvent.wire.address import Destination


def encode_request(encode: Callable[[Destination], bytes], destination: Destination) -> bytes:
    """``encode(destination)``, the first bytes of a stream.

    Raises DestinationError when the name does not fit; without a cause, which would name the
    destination.
    """
    try:
        return encode(destination)
    except ValueError:
        raise DestinationError(Reason.HOST_UNREACHABLE) from None
