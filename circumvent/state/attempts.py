"""What happened to one dial, handshake, probe or stream: the record that everything reads."""

from __future__ import annotations

import errno as errno_codes
import time
from dataclasses import dataclass

from circumvent.errors import CircumventError

_MS = 1000


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


def attempt_record(
    what: str, server: str, started: float, peak: int, error: BaseException | None = None
) -> Attempt:
    """The record of what began at ``started`` (``time.monotonic``) and ends now.

    An ``error`` that is none of ours is a cancellation.
    """
    known = error if isinstance(error, CircumventError) else None
    return Attempt(
        at=time.time(),
        what=what,
        server=server,
        stage=known.stage if known else "" if error else "probe",
        outcome="failed" if known else "cancelled" if error else "ok",
        errno=known.errno if known else None,
        ms=(time.monotonic() - started) * _MS,
        peak=peak,
        detail=str(known) if known else "",
    )
