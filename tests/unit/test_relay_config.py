"""What is wrong in a relay's files is named with its place and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from circumvent.cli.app import CONFIG
from circumvent.errors import ConfigError
from circumvent.relay import keys
from circumvent.relay.home import RelayHome
from circumvent.relay.relay import Relay
from circumvent.relay.warnings import METRICS_WARNING
from circumvent.wire.address import Destination
from tests.unit.relay_home import circumvent, edit, made_relay

__all__ = ["made_relay"]


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("127.0.0.1:9100", False),
        ("[::1]:9100", False),
        ("10.0.0.1:9100", False),
        ("0.0.0.0:9100", True),
        ("[::]:9100", True),
        ("198.51.100.1:9100", False),  # documentation: private, as Python has it
        ("8.8.8.8:9100", True),
    ],
)
def test_metrics_on_a_public_address_are_warned_of(
    home: RelayHome, address: str, *, is_open: bool
) -> None:
    edit(home.directory / "relay.toml", "cover =", f'metrics = "{address}"\ncover =')
    found = Relay(RelayHome.load(home.directory)).status().warnings
    assert found == ((METRICS_WARNING.format(address=address),) if is_open else ())


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("relay.toml", "carriers =", "colour =", "relay.toml: unknown key colour"),
        ("relay.toml", '"127.0.0.1:443"', '"127.0.0.1"', "relay.toml: cannot listen"),
        ("relay.toml", '"relay.example:443"', '"relay.example"', "relay.toml: public: port"),
        ("relay.toml", "knock_keys = [", 'knock_keys = ["AAAA", ', "knock_keys: has 3 bytes"),
        ("relay.toml", "listen = ", "listen = 1 #", "relay.toml: listen: Expected `str`"),
        ("relay.toml", "listen = ", "listen ", "relay.toml: Expected '='"),
        ("relay.toml", "cover =", "memory = '1 KiB'\ncover =", "memory: 1 KiB is too little"),
        ("users.toml", "name =", "nick =", "users.toml: unknown key users[0].nick"),
        ("users.toml", "token = ", 'token = "AAAA" # ', "token: has 3 bytes"),
    ],
)
def test_what_is_wrong_is_named(home: RelayHome, file: str, old: str, new: str, words: str) -> None:
    edit(home.directory / file, old, new)
    with pytest.raises(ConfigError) as caught:
        RelayHome.load(home.directory)
    text = str(caught.value).replace("Object missing", "")
    assert words in text
    assert home.config.knock_keys[0] not in text


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('[egress]\nrefused_ports = ["25-"]', "refused_ports"),
        ('[egress]\nrefused_ports = ["70000"]', "refused_ports"),
        ('[limits]\nrate = "fast"', 'rate: "fast" is not a size'),
        ('[limits]\nrate = "1 KiB"', "rate: 1 KiB is too little: at least 16 KiB"),
        ('[tls]\ncertificate = "x.pem"', "belong together"),
        ("[tls]\nenabled = false", '"tls" needs TLS to end here'),
        ('[web]\naddress = "x"', "web.address: port"),
    ],
)
def test_what_is_wrong_in_a_section_is_named(home: RelayHome, section: str, words: str) -> None:
    with (home.directory / "relay.toml").open("a") as file:
        file.write(section)
    with pytest.raises(ConfigError) as caught:
        RelayHome.load(home.directory)
    assert words in str(caught.value)


def test_two_users_with_one_name_or_token_are_refused(home: RelayHome) -> None:
    users = home.directory / "users.toml"
    users.write_text(users.read_text() * 2)
    with pytest.raises(ConfigError, match="two have the same name or token"):
        RelayHome.load(home.directory)


@pytest.mark.parametrize("name", ["relay.toml", "users.toml", "identity.key"])
def test_secrets_that_others_can_read_are_refused(home: RelayHome, name: str) -> None:
    (home.directory / name).chmod(0o644)
    result = circumvent("relay", "run", home.directory)
    assert result.exit_code == CONFIG
    assert f"chmod 600 '{home.directory / name}'" in result.output


def test_a_cover_site_must_exist(home: RelayHome) -> None:
    edit(home.directory / "relay.toml", '"site"', '"elsewhere"')
    with pytest.raises(ConfigError, match="elsewhere is not a directory"):
        _ = RelayHome.load(home.directory).site


@pytest.mark.parametrize(
    ("cover", "place"),
    [
        ("http://127.0.0.1:8080", Destination("127.0.0.1", 8080)),
        ("http://site.example/", Destination("site.example", 80)),
        ("http://[::1]:81", Destination("::1", 81)),
    ],
)
def test_another_server_may_serve_the_cover_site(
    home: RelayHome, cover: str, place: Destination
) -> None:
    edit(home.directory / "relay.toml", '"site"', f'"{cover}"')
    assert RelayHome.load(home.directory).site == place


@pytest.mark.parametrize("load", [keys.web_context, keys.inner_context])
def test_a_certificate_without_its_key_is_refused(
    home: RelayHome, load: Callable[[Path, Path], object]
) -> None:
    with pytest.raises(ConfigError, match="not a certificate with its key"):
        load(home.identity[0], home.identity[0])
    with pytest.raises(ConfigError, match="is not a certificate in PEM"):
        keys.pin(home.identity[1])


def test_a_directory_without_a_relay_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with: circumvent relay init"):
        RelayHome.load(tmp_path)
