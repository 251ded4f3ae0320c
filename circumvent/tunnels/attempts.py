"""What happened to one dial, handshake, probe or stream: the record that everything reads."""

from __future__ import annotations

import errno as errno_codes
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that was tried, without secrets and without visited hosts.

    ``at`` is in unix seconds, ``what`` is "race", "probe", "stream", "replace" or the like,
    ``server`` is an entry's id, ``stage`` names the step that was reached, ``outcome`` is "ok",
    "failed", "cancelled" or "timeout", ``ms`` is how long it took, ``peak`` is the most memory
    it held (bytes), ``detail`` is a short text for the user.
    """

    at: float
    what: str
    server: str
    stage: str
    outcome: str
    errno: int | None = None
    ms: float = 0.0
    peak: int = 0
    detail: str = ""

    @property
    def errno_name(self) -> str:
        """The symbolic name of ``errno``, or an empty string."""
        return errno_codes.errorcode.get(self.errno, "") if self.errno else ""
