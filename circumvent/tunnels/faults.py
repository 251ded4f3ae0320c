"""Whatever a plugin raises becomes an error of our tree, so that one plugin breaks nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from circumvent.errors import CircumventError, DialError, PluginError


@contextmanager
def plugin_faults(transport: str) -> Iterator[None]:
    """Around calls into ``transport``; raises CircumventError only (and cancellation).

    The text of a foreign error is left out: it may hold a secret or a visited host.
    """
    try:
        yield
    except CircumventError:
        raise
    except TimeoutError as error:
        message = "the server took too long"
        raise DialError(message, stage="timeout") from error
    except Exception as error:
        message = f"transport {transport} broke with {type(error).__name__}"
        raise PluginError(message, stage="plugin") from error
