"""How many sockets this process may have open."""

from __future__ import annotations

import contextlib
import sys

_FOR_EACH_CLIENT = 2  # its own socket, and that to a server
_SPARE = 48  # for probes, races, the state file: running out of descriptors harms everybody


def raise_descriptor_limit() -> int:
    """Let the process open as many sockets as it may; returns how many that are."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource  # noqa: PLC0415 - does not exist on Windows

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems refuse their own maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def most_clients() -> int:
    """How many clients there are descriptors for."""
    return max((raise_descriptor_limit() - _SPARE) // _FOR_EACH_CLIENT, 1)
