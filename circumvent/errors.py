"""Every error that circumvent raises, in one tree.

CircumventError
├── LocalError                something on this side: the user, the machine, a plugin
│   ├── ConfigError           a configuration value is wrong; says file and place
│   ├── LinkError             a share link cannot be used; says which part
│   ├── UnsupportedError      the request is well-formed, but this version lacks it
│   ├── PluginError           a plugin could not be loaded or broke its contract
│   ├── BudgetError           the memory budget has no room for the request
│   ├── LeaseError            a lease was used against its rules (a bug)
│   └── NoTunnelError         no tunnel is up, and going direct is never an option
└── RemoteError               the other side is at fault, or somebody in between
    ├── DialError             no connection to the server
    ├── HandshakeError        connected, but the handshake failed
    │   ├── OldTlsError       the server speaks no TLS 1.3
    │   ├── EchRejectedError  the server could not open the encrypted greeting
    │   └── PinError          the server showed another certificate than the pinned one
    ├── ProtocolError         the peer sent what its protocol forbids
    ├── ProbeError            the tunnel opened but carried no checked bytes
    ├── StreamResetError      an open stream was cut
    ├── DestinationError      the tunnel works, the destination does not; has a reason
    ├── ChannelError          a discovery channel brought nothing; has a verdict
    └── BundleError           a channel brought a bundle that is refused; has a fault

Messages are shown to users and written to logs: they never hold a secret or a visited host.
"""

from __future__ import annotations

import enum
import errno as errno_codes
from typing import Self

# Troubles of this machine or its own network: they say nothing about the other side.
_OWN_TROUBLE = frozenset(
    (
        errno_codes.EMFILE,
        errno_codes.ENFILE,
        errno_codes.ENOBUFS,
        errno_codes.ENOMEM,
        errno_codes.EADDRNOTAVAIL,  # no local port is left
        errno_codes.ENETDOWN,
        errno_codes.ENETUNREACH,
        errno_codes.EACCES,  # a firewall of our own
        errno_codes.EPERM,
    )
)


class CircumventError(Exception):
    """Base of the tree.

    ``stage`` names the step that failed, ``errno`` is the system's code where there is one.
    """

    def __init__(self, message: str, *, stage: str = "", errno: int | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.errno = errno

    @property
    def errno_name(self) -> str:
        """The symbolic name of ``errno``, or an empty string."""
        return errno_codes.errorcode.get(self.errno, "") if self.errno else ""

    @property
    def is_own_trouble(self) -> bool:
        """Whether the trouble is on this side, and so no evidence against the other side."""
        return self.stage == "resolve" or self.errno in _OWN_TROUBLE

    def bare(self) -> Self:
        """The same error without its traceback and causes, to be kept for later.

        Frames keep alive all that failed, and often the error itself, which is freed late then.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class LocalError(CircumventError):
    """Something on this side is wrong."""


class ConfigError(LocalError):
    """A configuration value is wrong."""


class LinkError(LocalError):
    """A share link cannot be used."""


class UnsupportedError(LocalError):
    """A well-formed request for something that this version lacks."""


class PluginError(LocalError):
    """A plugin could not be loaded or broke its contract."""


class BudgetError(LocalError):
    """The memory budget has no room for the request."""

    @property
    def is_own_trouble(self) -> bool:
        return True


class LeaseError(LocalError):
    """A lease was used against its rules."""


class NoTunnelError(LocalError):
    """No tunnel is up."""


class RemoteError(CircumventError):
    """The other side is at fault, or somebody in between."""


class DialError(RemoteError):
    """No connection to the server."""


class HandshakeError(RemoteError):
    """Connected, but the handshake failed."""


class OldTlsError(HandshakeError):
    """The server speaks only TLS 1.2 or older: OpenSSL may serve it on a new connection."""


class EchRejectedError(HandshakeError):
    """The server could not open the encrypted greeting (RFC 9849 §6.1.6).

    ``retry_configs`` is its ECHConfigList of now, for one more try on a new connection; it is
    empty when the server has given ECH up.
    """

    def __init__(self, retry_configs: bytes) -> None:
        super().__init__(
            "the server could not open the encrypted greeting: the ECH key of the link is old; ask"
            " for a new link",
            stage="tls",
        )
        self.retry_configs = retry_configs


class PinError(HandshakeError):
    """The server showed another certificate, or public key, than the pinned one."""


class ProtocolError(RemoteError):
    """The peer sent what its protocol forbids."""


class ProbeError(RemoteError):
    """The tunnel opened but carried no bytes that check out."""


class StreamResetError(RemoteError):
    """An open stream was cut."""


class Reason(enum.Enum):
    """Why a destination could not be reached, as far as a tunnel's protocol tells."""

    FAILURE = "general failure"
    FORBIDDEN = "not allowed by the server's rules"
    NETWORK_UNREACHABLE = "network unreachable"
    HOST_UNREACHABLE = "host unreachable"
    REFUSED = "connection refused"
    TIMED_OUT = "timed out"

    @classmethod
    def of_errno(cls, code: int | None) -> Reason:
        """What the system's code tells; FAILURE where it tells nothing of the destination."""
        return _REASON_OF_ERRNO.get(code or 0, cls.FAILURE)


_REASON_OF_ERRNO = {
    errno_codes.ECONNREFUSED: Reason.REFUSED,
    errno_codes.ENETUNREACH: Reason.NETWORK_UNREACHABLE,
    errno_codes.EHOSTUNREACH: Reason.HOST_UNREACHABLE,
    errno_codes.ETIMEDOUT: Reason.TIMED_OUT,
}


class DestinationError(RemoteError):
    """The tunnel works, the destination does not."""

    def __init__(self, reason: Reason, *, errno: int | None = None) -> None:
        super().__init__(f"destination: {reason.value}", stage="destination", errno=errno)
        self.reason = reason


class Verdict(enum.Enum):
    """Why a discovery channel brought no bundle, in words for the user."""

    FORGED = "were forged by the network"  # follows a detail that names what was forged
    PORTAL = "a web page came instead: a login page of this network, or a block page"
    BLOCKED = "the connection was cut or answered by somebody else, as censors do"
    REFUSED = "the server refused: it is there, but does not serve this"
    NOT_FOUND = "there is nothing at this place"
    UNCHANGED = "nothing newer than what is known"
    TOO_LARGE = "more data came than any bundle holds"
    TOO_SLOW = "no complete answer came in time"
    BROKEN = "the answer could not be read"
    UNREACHABLE = "no server could be reached"
    NOT_ASKED = "there was no time left to ask"


class ChannelError(RemoteError):
    """A discovery channel brought nothing."""

    def __init__(self, verdict: Verdict, detail: str = "", *, errno: int | None = None) -> None:
        if verdict is Verdict.FORGED:
            text = f"{detail or 'answers'} {verdict.value}"
        else:
            text = f"{verdict.value} ({detail})" if detail else verdict.value
        super().__init__(text, stage=verdict.name.lower(), errno=errno)
        self.verdict = verdict


class Fault(enum.Enum):
    """Why a bundle is refused, in words for the user."""

    NOT_A_BUNDLE = "this is not a bundle"
    TOO_LARGE = "it is larger than any bundle may be"
    WRONG_KEY = "nobody whom you trust has signed it"
    ALTERED = "it was altered after it was signed"
    THRESHOLD = "too few of those whom you trust have signed it"
    NOT_FOR_YOU = "it is for the holders of another invite"
    BROKEN = "its signer wrote what no bundle may hold"
    NOT_YET = "it comes from the future: set the clock of this machine"
    EXPIRED = "it has expired (or the clock of this machine is ahead)"
    ROLLED_BACK = "a newer one was seen before: somebody replays an old one"


class BundleError(RemoteError):
    """A bundle is refused."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        text = f"{fault.value} ({detail})" if detail else fault.value
        super().__init__(text, stage=fault.name.lower())
        self.fault = fault
