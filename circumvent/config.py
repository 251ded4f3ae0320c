"""Typed configuration: the defaults, which a TOML file and the command line change."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from circumvent.api import Privacy
from circumvent.errors import ConfigError
from circumvent.inbound.options import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    IDLE_SECONDS,
    MAX_CLIENTS,
    Credentials,
    InboundOptions,
)
from circumvent.net.guard import Guard, anything, as_typed, learnt
from circumvent.net.listener import parse_listen
from circumvent.net.sockets import SocketBuffers
from circumvent.tunnels.probe import ProbeTarget
from circumvent.typed_toml import check_private, convert, parse_size, read_secret, read_table

MINUTE = 60.0  # seconds
FILE_NAME = "circumvent.toml"
CONTROL_SOCKET = "control.sock"
PATH_KEYS = ("password_file", "servers_file", "state_dir")

log = logging.getLogger(__name__)

Count = Annotated[int, Meta(ge=1)]


class InboundLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the local port."""

    clients: Count = MAX_CLIENTS
    idle_minutes: Annotated[float, Meta(gt=0)] = IDLE_SECONDS / MINUTE


class PluginRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Distributions besides circumvent's own whose plugins may be loaded."""

    allow: tuple[str, ...] = ()


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a user can choose; ``config/circumvent.toml`` explains each key."""

    listen: str = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
    user: str = ""
    password_file: str = ""
    memory: str = "16 MiB"
    arena: str = ""
    tunnels: Count = 3
    parallel_dials: Count = 4
    privacy: Literal["encrypted", "unverified", "plain", "direct"] = "encrypted"
    probe_urls: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "http://www.gstatic.com/generate_204",
        "http://cp.cloudflare.com/generate_204",
    )
    servers: tuple[str, ...] = ()
    servers_file: str = ""
    state_dir: str = ""
    allow_private: bool = False
    plugins: PluginRules = PluginRules()
    limits: InboundLimits = InboundLimits()

    def __post_init__(self) -> None:
        parse_listen(self.listen)
        parse_size("memory", self.memory)
        if self.arena:
            parse_size("arena", self.arena)
        for number, url in enumerate(self.probe_urls, start=1):
            try:
                ProbeTarget.parse(url)
            except ValueError as error:  # a URL may hold a secret
                raise ValueError(f"probe_urls: number {number} {error}") from None

    @property
    def memory_bytes(self) -> int:
        """The memory budget in bytes."""
        return parse_size("memory", self.memory)

    @property
    def arena_bytes(self) -> int | None:
        """How much of the memory can be leased as buffers; None for all of it."""
        return parse_size("arena", self.arena) if self.arena else None

    @property
    def socket_buffers(self) -> SocketBuffers:
        """What the kernel may buffer for each socket, in proportion to the arena."""
        return SocketBuffers.beside(self.arena_bytes or self.memory_bytes)

    @property
    def guard(self) -> Guard:
        """Which addresses of what the user named may be dialled."""
        return anything if self.allow_private else as_typed

    def learnt_guard(self, typed: str = "") -> Guard:
        """Which addresses of what others named may be dialled, and the host that the user typed."""
        return anything if self.allow_private else learnt(typed)

    @property
    def privacy_floor(self) -> Privacy:
        """No tunnel below this class is used."""
        return Privacy[self.privacy.upper()]

    @property
    def state_file(self) -> Path:
        """Where attempts, scores and saved servers are."""
        return self._directory("user_state_path") / "state.db"

    @property
    def control_sockets(self) -> tuple[Path, ...]:
        """Where ``circumvent status`` asks the client: it serves the first that it could make."""
        # Never below /tmp, where another user could make the socket first.
        beside = self.state_file.with_name(CONTROL_SOCKET)
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and not self.state_dir and _is_ours(runtime):
            return (Path(runtime) / "circumvent" / CONTROL_SOCKET, beside)
        return (beside,)

    def credentials(self) -> Credentials | None:
        """User and password of the local port; raises ConfigError."""
        if not self.user and not self.password_file:
            return None
        if not (self.user and self.password_file):
            raise ConfigError(
                "user and password_file belong together: set both or none", stage="config"
            )
        password = read_secret(Path(self.password_file)).strip()  # blanks within it stay
        if not password:
            raise ConfigError(f"the password file {self.password_file} is empty", stage="config")
        return Credentials(self.user, password)

    def links(self) -> tuple[str, ...]:
        """Links of ``servers`` and ``servers_file``; raises ConfigError."""
        if not self.servers_file:
            return self.servers
        return self.servers + list_links(read_secret(Path(self.servers_file), "replace"))

    def inbound(self) -> InboundOptions:
        """Where to listen and whom to admit; raises ConfigError when strangers could connect."""
        host, port = parse_listen(self.listen)
        return InboundOptions(
            host=host,
            port=port,
            credentials=self.credentials(),
            max_clients=self.limits.clients,
            idle_seconds=self.limits.idle_minutes * MINUTE,
            buffers=self.socket_buffers,
        )

    def _directory(self, kind: str) -> Path:
        return Path(self.state_dir) if self.state_dir else _of_the_user(kind)


def _of_the_user(kind: str) -> Path:
    """One of the user's directories; below "~" where the user has no home directory."""
    import platformdirs  # noqa: PLC0415 - only where no place was named

    try:
        path: Path = getattr(platformdirs, kind)("circumvent", appauthor=False)
    except RuntimeError:
        return Path("~/circumvent")
    return path


def _is_ours(directory: str) -> bool:
    """Whether it belongs to this user: after ``su`` the environment may be another user's."""
    try:
        return Path(directory).stat().st_uid == os.geteuid()
    except OSError:
        return False


def default_file() -> Path:
    """Where the configuration file is looked for when none is named."""
    return _of_the_user("user_config_path") / FILE_NAME


def load(path: Path | None, overrides: Mapping[str, object] | None = None) -> Config:
    """Defaults, then the file (``None``: the default one if there is one), then overrides.

    Raises ConfigError, which names the file or the option, the key and what to do.
    """
    table = _read_table(path)
    source = str(path or default_file())
    from_file = convert(table, Config, source)
    if from_file.servers:
        check_private(Path(source))
    if not overrides:
        return from_file
    return convert({**table, **overrides}, Config, "command line or environment")


def list_links(text: str) -> tuple[str, ...]:
    """The links of a list, one a line, without comments (``#``, ``//``) and markup."""
    from circumvent.links.list_reader import number_links  # noqa: PLC0415 - few need it

    return tuple(link for _, link in number_links(text))


def _read_table(path: Path | None) -> dict[str, object]:
    source = path or default_file()
    if path is None and not _exists(source):
        return {}
    return {key: _resolve(source, key, value) for key, value in read_table(source).items()}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # as in another user's home directory
        log.warning("%s cannot be read: %s", path, error.strerror)
        return False


def _resolve(source: Path, key: str, value: object) -> object:
    """Paths in a file are relative to that file."""
    if key in PATH_KEYS and isinstance(value, str) and value:
        return str(source.parent / Path(value).expanduser())
    return value
