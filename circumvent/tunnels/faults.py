"""Whatever a plugin raises becomes an error of our tree, so that one plugin breaks nobody else."""

from __future__ import annotations

from types import TracebackType

from circumvent.errors import CircumventError, DialError, PluginError


class plugin_faults:  # noqa: N801 - reads as the verb that it is
    """Around calls into a plugin; raises CircumventError only (and cancellation).

    The text of a foreign error is left out: it may hold a secret or a visited host.
    """

    __slots__ = ("_plugin",)

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if isinstance(error, TimeoutError):
            raise DialError("the server took too long", stage="timeout") from error
        if isinstance(error, Exception) and not isinstance(error, CircumventError):
            raise PluginError(
                f"plugin {self._plugin} broke with {type(error).__name__}", stage="plugin"
            ) from error
