"""A relay's directory: its two files as they were read, its keys, and where its cover site is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from circumvent.errors import ConfigError, LinkError
from circumvent.relay.config import RelayConfig, UserEntry, UsersFile
from circumvent.relay.cover.secrets import check_files, check_places
from circumvent.typed_toml import check_private, convert, read_table
from circumvent.wire.address import Destination
from circumvent.wire.host_port import parse_address

RELAY_FILE, USERS_FILE = "relay.toml", "users.toml"
IDENTITY_KEY, IDENTITY_CERTIFICATE = "identity.key", "identity.pem"
CONTROL_SOCKET = "control.sock"
HTTP_PORT = 80
ELSEWHERE = "http://"  # begins the address of a cover site that another server serves
ANY, LOOPBACK, LOCALHOST = ("0.0.0.0", "::"), ("127.0.0.1", "::1"), "localhost"  # noqa: S104


@dataclass(frozen=True, slots=True)
class RelayHome:
    """A relay's directory and what its files say; paths in ``relay.toml`` are relative to it."""

    directory: Path
    config: RelayConfig
    users: tuple[UserEntry, ...]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read both files; raises ConfigError that names the file, the place and the remedy."""
        config_file, users_file = directory / RELAY_FILE, directory / USERS_FILE
        if not config_file.exists():
            remedy = f"make one with: circumvent relay init {directory} --listen HOST:PORT"
            raise ConfigError(f"{directory} is not a relay's directory; {remedy}", stage="config")
        for path in (config_file, users_file, directory / IDENTITY_KEY):
            check_private(path)
        config = convert(read_table(config_file), RelayConfig, str(config_file))
        users = convert(read_table(users_file), UsersFile, str(users_file))
        home = cls(directory, config, users.users)
        if home._cover_directory is not None:
            check_places(home._cover_directory, home.private)
        return home

    @property
    def private(self) -> tuple[Path, ...]:
        """The directory and the files that hold secrets."""
        files = (RELAY_FILE, USERS_FILE, IDENTITY_KEY)
        keys = (self.directory / name for name in files)
        return self.directory, *keys, self.certificate_key

    @property
    def certificate(self) -> Path:
        """The certificate of TLS on the port."""
        return self.directory / (self.config.tls.certificate or IDENTITY_CERTIFICATE)

    @property
    def certificate_key(self) -> Path:
        """The key of TLS on the port."""
        return self.directory / (self.config.tls.key or IDENTITY_KEY)

    @property
    def identity(self) -> tuple[Path, Path]:
        """Certificate and key of the relay itself, whoever stands in front of it."""
        return self.directory / IDENTITY_CERTIFICATE, self.directory / IDENTITY_KEY

    @property
    def control_socket(self) -> Path:
        """The control socket, which ``relay status`` asks."""
        return self.directory / CONTROL_SOCKET

    @property
    def site(self) -> Destination | Path:
        """The cover site: a web server's address or a directory; raises ConfigError."""
        directory = self._cover_directory
        if directory is None:
            return self._site_elsewhere()
        if not directory.is_dir():
            raise ConfigError(
                f"cover: {directory} is not a directory; make it, or give http://HOST:PORT",
                stage="config",
            )
        check_files(directory, self.private)
        return directory

    @property
    def _cover_directory(self) -> Path | None:
        """The directory of the cover site; None when another server serves it."""
        cover = self.config.cover
        return None if cover.startswith(ELSEWHERE) else self.directory / cover

    def _site_elsewhere(self) -> Destination:
        try:
            place = self.config.cover.removeprefix(ELSEWHERE).rstrip("/")
            site = Destination(*parse_address(place if ":" in place else f"{place}:{HTTP_PORT}"))
        except LinkError as error:
            raise ConfigError(f"cover: {error}", stage="config") from error
        for key, own in (
            ("listen", self.config.listen_address),
            ("metrics", self.config.metrics_address),
        ):
            if own is not None and _is_same(site, own):
                raise ConfigError(
                    f"cover: {site} is the relay's own ({key}); name a web server's address",
                    stage="config",
                )
        return site


def _is_same(site: Destination, own: Destination) -> bool:
    """Whether a connection to ``site`` reaches what listens on ``own``, as far as names tell."""
    here = (own.host, LOCALHOST, *LOOPBACK) if own.host in ANY else (own.host,)
    return site.port == own.port and site.host in here
