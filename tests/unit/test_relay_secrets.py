"""The cover site is shown to everybody: the relay's secrets never lie in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from circumvent.cli.app import CONFIG
from circumvent.errors import ConfigError
from circumvent.relay.home import RelayHome
from circumvent.relay.relay import Relay
from circumvent.wire.keys import KeyKind, generate
from tests.peers.certificates import make_certificate
from tests.unit.relay_home import circumvent, edit, made_relay

__all__ = ["made_relay"]


@pytest.mark.parametrize("cover", [".", "..", "../relay", "link", "site/../", "/"])
def test_a_directory_that_holds_the_relays_own_is_refused(home: RelayHome, cover: str) -> None:
    (home.directory / "link").symlink_to(home.directory)
    edit(home.directory / "relay.toml", '"site"', f'"{cover}"')
    with pytest.raises(ConfigError, match=r"cover: .* would show .* to everybody"):
        RelayHome.load(home.directory)


@pytest.mark.parametrize("cover", ["relay", ".", "link"])
def test_init_refuses_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cover: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    words = ("relay", "init", "relay", "--listen", "127.0.0.1:4443", "--cover", cover)
    made = circumvent(*words)
    assert made.exit_code == CONFIG
    assert "would show" in made.output
    assert not (tmp_path / "relay").exists()


def test_a_directory_that_holds_the_key_of_the_certificate_is_refused(home: RelayHome) -> None:
    files = make_certificate(home.directory / "site")
    with (home.directory / "relay.toml").open("a") as file:
        file.write(f'[tls]\ncertificate = "{files.chain}"\nkey = "{files.key}"\n')
    with pytest.raises(ConfigError, match="would show"):
        RelayHome.load(home.directory)


def test_a_reload_refuses_it_too(home: RelayHome) -> None:
    relay = Relay(home)
    edit(home.directory / "relay.toml", '"site"', '"."')
    with pytest.raises(ConfigError, match="would show"):
        relay.reload()


@pytest.mark.parametrize("kind", ["copy", "hard link", "other relay", "signer", "tail"])
def test_keys_and_tokens_among_its_files_are_found(home: RelayHome, kind: str) -> None:
    folder = home.directory / "site" / "a" / "b"
    folder.mkdir(parents=True)
    key = home.directory / "identity.key"
    if kind == "copy":
        (folder / "old.txt").write_bytes(key.read_bytes())
    elif kind == "hard link":
        (folder / "old.txt").hardlink_to(home.directory / "users.toml")
    elif kind == "other relay":
        (folder / "users.toml").write_text("")
    elif kind == "signer":
        (folder / "key").write_text(generate(KeyKind.SIGNER).text())
    else:
        (folder / "all.pem").write_bytes(home.identity[0].read_bytes() + key.read_bytes())
    with pytest.raises(ConfigError, match=r"cover: .*/a/b/.* holds secrets"):
        _ = RelayHome.load(home.directory).site


def test_files_that_the_site_does_not_show_may_be_there(home: RelayHome) -> None:
    site, key = home.directory / "site", home.directory / "identity.key"
    (site / ".git").mkdir()
    (site / ".git" / "key").write_bytes(key.read_bytes())
    (site / ".key").write_bytes(key.read_bytes())
    (site / "key").symlink_to(key)
    (site / "certificate.pem").write_bytes(home.identity[0].read_bytes())
    assert RelayHome.load(home.directory).site == site


@pytest.mark.parametrize(
    ("listen", "cover"),
    [
        ("127.0.0.1:443", "http://127.0.0.1:443"),
        ("0.0.0.0:8443", "http://127.0.0.1:8443"),
        ("[::]:8443", "http://localhost:8443/"),
        ("127.0.0.1:443", "http://127.0.0.1:9100"),
    ],
)
def test_the_relay_itself_is_refused(home: RelayHome, listen: str, cover: str) -> None:
    file = home.directory / "relay.toml"
    edit(file, '"127.0.0.1:443"', f'"{listen}"')
    edit(file, 'cover = "site"', f'cover = "{cover}"\nmetrics = "127.0.0.1:9100"')
    with pytest.raises(ConfigError, match="is the relay's own"):
        _ = RelayHome.load(home.directory).site
