"""Makes a new relay's directory, new users, and their invites."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from circumvent.errors import ConfigError
from circumvent.links.relay import RelayLink
from circumvent.relay import keys
from circumvent.relay.config import RelayConfig, UserEntry
from circumvent.relay.cover.secrets import check_places
from circumvent.relay.home import (
    ELSEWHERE,
    IDENTITY_CERTIFICATE,
    IDENTITY_KEY,
    RELAY_FILE,
    USERS_FILE,
    RelayHome,
)
from circumvent.typed_toml import SECRET_MODE, convert
from circumvent.wire.base64url import encode_base64url
from circumvent.wire.credential import TOKEN_SIZE
from circumvent.wire.knock import KNOCK_KEY_SIZE

FIRST_USER = "first"
SITE = "site"
DIRECTORY_MODE = 0o700
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{host}</title><h1>{host}</h1></html>
"""
_USER = '\n[[users]]\nname = {name}\ntoken = "{token}"\n'
_RELAY = """\
# docs/relay.md explains these keys and the others. Holds secrets: mode 0600.
listen = {listen}
public = {public}
cover = {cover}
carriers = ["tls", "websocket"]
knock_keys = ["{knock_key}"]
{certificate}{egress}"""
_CERTIFICATE = "\n[tls]\ncertificate = {certificate}\nkey = {key}\n"
_PRIVATE = """
[egress]
# FOR LABS ONLY: users reach this machine's own services and its private networks.
allow_private = true
"""


@dataclass(frozen=True, slots=True)
class NewRelay:
    """The options of ``relay init``; without ``certificate`` (chain, key) TLS is self-signed."""

    listen: str
    public: str
    cover: str = SITE
    certificate: tuple[Path, Path] | None = None
    allow_private: bool = False


def create(directory: Path, wanted: NewRelay) -> RelayHome:
    """Make keys, a configuration, a first user and a web page; raises ConfigError."""
    text = _relay_file(wanted)
    if (directory / RELAY_FILE).exists():
        raise ConfigError(
            f"{directory} holds a relay already; choose another directory", stage="init"
        )
    if not wanted.cover.startswith(ELSEWHERE):
        check_places(directory / wanted.cover, [directory])
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _fill(directory, wanted, text)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}", stage="init") from error
    return RelayHome.load(directory)


def add_user(home: RelayHome, name: str) -> UserEntry:
    """Add a user to ``users.toml``; raises ConfigError."""
    if any(user.name == name for user in home.users):
        raise ConfigError(f"there is a user {name!r} already; choose another name", stage="invite")
    user = UserEntry(name, encode_base64url(secrets.token_bytes(TOKEN_SIZE)))
    with (home.directory / USERS_FILE).open("a") as file:
        file.write(_USER.format(name=_quoted(name), token=user.token))
    return user


def make_invite(home: RelayHome, user: UserEntry) -> RelayLink:
    """The link by which ``user`` reaches the relay; raises ConfigError."""
    config = home.config
    pins = [keys.pin(home.identity[0])]
    if config.tls.enabled and config.tls.certificate:
        pins.append(keys.pin(home.certificate))
    return RelayLink(
        host=config.public_address.host,
        port=config.public_address.port,
        knock_key=config.keys[0],
        token=user.raw_token,
        pins=tuple(pins),
        carriers=config.carriers,
        server_name=config.server_name,
        web=config.web_address,
        web_host=config.web.host,
        path=config.web.path,
        name=config.name,
    )


def _relay_file(wanted: NewRelay) -> str:
    """The text of ``relay.toml``; raises ConfigError when the relay would not accept it."""
    certificate = ""
    if wanted.certificate is not None:
        chain, key = (_quoted(str(path.absolute())) for path in wanted.certificate)
        certificate = _CERTIFICATE.format(certificate=chain, key=key)
    knock_key = encode_base64url(secrets.token_bytes(KNOCK_KEY_SIZE))
    checked = {"listen": wanted.listen, "public": wanted.public, "knock_keys": [knock_key]}
    convert(checked, RelayConfig, "relay init")
    return _RELAY.format(
        listen=_quoted(wanted.listen),
        public=_quoted(wanted.public),
        cover=_quoted(wanted.cover),
        knock_key=knock_key,
        certificate=certificate,
        egress=_PRIVATE if wanted.allow_private else "",
    )


def _fill(directory: Path, wanted: NewRelay, text: str) -> None:
    host = wanted.public.rpartition(":")[0].strip("[]")
    key, certificate = keys.make_identity(host)
    _write(directory / IDENTITY_KEY, key)
    _write(directory / IDENTITY_CERTIFICATE, certificate)
    token = encode_base64url(secrets.token_bytes(TOKEN_SIZE))
    user = _USER.format(name=_quoted(FIRST_USER), token=token)
    _write(directory / USERS_FILE, user.lstrip().encode())
    if wanted.cover == SITE:
        (directory / SITE).mkdir(exist_ok=True)
        (directory / SITE / "index.html").write_text(_PAGE.format(host=host))
    _write(directory / RELAY_FILE, text.encode())


def _quoted(text: str) -> str:
    """``text`` as a TOML string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _write(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
