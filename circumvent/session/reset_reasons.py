"""Why a stream was reset: the codes of the protocol, as errors and in words."""

from __future__ import annotations

from circumvent.errors import Reason
from circumvent.wire.frames import ResetReason

RESET_REASONS = {
    Reason.FAILURE: ResetReason.FAILURE,
    Reason.FORBIDDEN: ResetReason.FORBIDDEN,
    Reason.NETWORK_UNREACHABLE: ResetReason.NETWORK_UNREACHABLE,
    Reason.HOST_UNREACHABLE: ResetReason.HOST_UNREACHABLE,
    Reason.REFUSED: ResetReason.REFUSED,
    Reason.TIMED_OUT: ResetReason.TIMED_OUT,
}
REASONS = {code: reason for reason, code in RESET_REASONS.items()}
TEXTS = {
    ResetReason.BROKEN: "the destination cut the connection",
    ResetReason.MEMORY: "no memory was left for it",
    ResetReason.STALLED: "it was not read for too long while others waited",
    ResetReason.TOO_MANY: "too many streams are open",
    ResetReason.DRAINING: "the relay is about to stop",
}
