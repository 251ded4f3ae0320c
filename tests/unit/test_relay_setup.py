"""A relay, its users and their invites are made by commands."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from circumvent.cli.app import FAILURE
from circumvent.cli.relay import describe
from circumvent.errors import ConfigError
from circumvent.links.relay import parse_relay_link
from circumvent.relay import keys, setup
from circumvent.relay.home import RelayHome
from circumvent.relay.status import RelayStatus, UserStatus
from circumvent.relay.warnings import PRIVATE_WARNING
from circumvent.status.snapshot import MemoryStatus
from circumvent.wire.address import Destination
from tests.peers.certificates import make_certificate
from tests.unit.relay_home import WANTED, circumvent, made_relay

__all__ = ["made_relay"]


def test_only_the_owner_can_read_what_was_made(home: RelayHome) -> None:
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.directory.iterdir()
        if path.is_file()
    }
    assert modes == dict.fromkeys(
        ("identity.key", "identity.pem", "relay.toml", "users.toml"), 0o600
    )
    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700


def test_an_invite_names_the_relay_and_pins_its_key(home: RelayHome) -> None:
    link = setup.make_invite(home, home.users[0])
    assert (link.host, link.port) == ("relay.example", 443)
    assert link.knock_key == home.config.keys[0]
    assert link.token == home.users[0].raw_token
    assert link.pins == (keys.pin(home.identity[0]),)


def test_two_relays_share_nothing(tmp_path: Path) -> None:
    one, other = (setup.create(tmp_path / name, WANTED) for name in ("one", "other"))
    assert one.config.keys != other.config.keys
    assert one.users != other.users
    assert keys.pin(one.identity[0]) != keys.pin(other.identity[0])


def test_with_a_certificate_both_keys_are_pinned(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    wanted = setup.NewRelay(
        "127.0.0.1:443", "relay.example:443", certificate=(files.chain, files.key)
    )
    home = setup.create(tmp_path / "relay", wanted)
    assert home.certificate == files.chain
    assert setup.make_invite(home, home.users[0]).pins == (
        keys.pin(home.identity[0]),
        keys.pin(files.chain),
    )


def test_web_settings_are_in_the_invite(home: RelayHome) -> None:
    with (home.directory / "relay.toml").open("a") as file:
        file.write('[web]\naddress = "cdn.example:443"\nhost = "hidden.example"\npath = "/live"\n')
    link = setup.make_invite(RelayHome.load(home.directory), home.users[0])
    assert link.web == Destination("cdn.example", 443)
    assert (link.web_host, link.path) == ("hidden.example", "/live")


def test_a_second_init_changes_nothing(home: RelayHome) -> None:
    with pytest.raises(ConfigError, match="holds a relay already"):
        setup.create(home.directory, WANTED)


def test_the_command_line_makes_a_relay_and_an_invite(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    made = circumvent("relay", "init", folder, "--listen", "127.0.0.1:4443")
    assert made.exit_code == 0
    assert f"circumvent relay run {folder}" in made.output
    invited = circumvent("relay", "invite", folder)
    assert invited.output.count("\n") == 1
    assert parse_relay_link(invited.output).port == 4443
    assert "▀" in circumvent("relay", "invite", folder, "--qr").output


def test_each_user_has_an_own_link(home: RelayHome) -> None:
    anna = parse_relay_link(circumvent("relay", "invite", home.directory, "--new", "Anna B").stdout)
    again = parse_relay_link(
        circumvent("relay", "invite", home.directory, "--user", "Anna B").stdout
    )
    first = parse_relay_link(circumvent("relay", "invite", home.directory).stdout)
    assert anna == again
    assert anna.token != first.token
    twice = circumvent("relay", "invite", home.directory, "--new", "Anna B")
    assert "there is a user" in twice.output
    nobody = circumvent("relay", "invite", home.directory, "--user", "Ben")
    assert "no user 'Ben'" in nobody.output


def test_a_lab_is_warned_of(tmp_path: Path) -> None:
    words = ("relay", "init", tmp_path / "lab", "--listen", "127.0.0.1:4443", "--allow-private")
    assert PRIVATE_WARNING in circumvent(*words).output
    assert RelayHome.load(tmp_path / "lab").config.egress.allow_private


def test_status_is_shown_as_text() -> None:
    memory = MemoryStatus(1 << 20, 1024, 2048, 4096, 1 << 20, 0)
    users = (UserStatus("anna", 1, 3, 7, 1024, 2048),)
    status = RelayStatus("127.0.0.1:443", "up", 1, 5, 3, 1, 2, {}, memory, users, ("beware",))
    lines = describe(status).splitlines()
    assert lines[0].startswith("listening on 127.0.0.1:443, up; 1 visitors now, 5 connections")
    assert lines[-2].split() == ["anna", "1", "3", "7", "1.0", "KiB", "2.0", "KiB"]
    assert lines[-1] == "warning: beware"


def test_status_of_a_relay_that_does_not_run_says_how_to_start_it(home: RelayHome) -> None:
    result = circumvent("relay", "status", home.directory)
    assert result.exit_code == FAILURE
    assert f"start it with: circumvent relay run {home.directory}" in result.output


def test_a_wildcard_address_needs_a_public_one(tmp_path: Path) -> None:
    result = circumvent("relay", "init", tmp_path / "x", "--listen", "0.0.0.0:443")
    assert "--public is needed" in result.output
