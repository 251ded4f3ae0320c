"""A relay is made by one command, and what is wrong in its files is named with its place."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from circumvent.cli.app import CONFIG, FAILURE, main
from circumvent.cli.relay import describe
from circumvent.errors import ConfigError
from circumvent.links.relay import parse_relay_link
from circumvent.relay import keys, setup
from circumvent.relay.home import RelayHome
from circumvent.relay.relay import METRICS_WARNING, PRIVATE_WARNING, Relay
from circumvent.relay.status import RelayStatus, UserStatus
from circumvent.status.snapshot import MemoryStatus
from circumvent.wire.address import Destination
from circumvent.wire.keys import KeyKind, generate
from tests.peers.certificates import make_certificate

WANTED = setup.NewRelay(listen="127.0.0.1:443", public="relay.example:443")


@pytest.fixture
def home(tmp_path: Path) -> RelayHome:
    return setup.create(tmp_path / "relay", WANTED)


def circumvent(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_everything_is_for_the_owner_alone(home: RelayHome) -> None:
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.directory.iterdir()
        if path.is_file()
    }
    assert modes == dict.fromkeys(
        ("identity.key", "identity.pem", "relay.toml", "users.toml"), 0o600
    )
    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700


def test_the_invite_leads_to_the_relay_and_to_its_key(home: RelayHome) -> None:
    link = setup.invite(home, home.users[0])
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
    assert setup.invite(home, home.users[0]).pins == (
        keys.pin(home.identity[0]),
        keys.pin(files.chain),
    )


def test_web_settings_are_in_the_invite(home: RelayHome) -> None:
    with (home.directory / "relay.toml").open("a") as file:
        file.write('[web]\naddress = "cdn.example:443"\nhost = "hidden.example"\npath = "/live"\n')
    link = setup.invite(RelayHome.load(home.directory), home.users[0])
    assert link.web == Destination("cdn.example", 443)
    assert (link.web_host, link.path) == ("hidden.example", "/live")


def test_a_second_init_changes_nothing(home: RelayHome) -> None:
    with pytest.raises(ConfigError, match="holds a relay already"):
        setup.create(home.directory, WANTED)


def test_the_command_line_makes_and_invites(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    made = circumvent("relay", "init", folder, "--listen", "127.0.0.1:4443")
    assert made.exit_code == 0
    assert f"circumvent relay run {folder}" in made.output
    invited = circumvent("relay", "invite", folder)
    assert invited.output.count("\n") == 1
    assert parse_relay_link(invited.output).port == 4443
    assert "▀" in circumvent("relay", "invite", folder, "--qr").output


def test_a_new_user_gets_an_own_link(home: RelayHome) -> None:
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


def test_a_lab_is_loud(tmp_path: Path) -> None:
    words = ("relay", "init", tmp_path / "lab", "--listen", "127.0.0.1:4443", "--allow-private")
    assert PRIVATE_WARNING in circumvent(*words).output
    assert RelayHome.load(tmp_path / "lab").config.egress.allow_private


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
def test_metrics_for_everybody_are_warned_of(
    home: RelayHome, address: str, *, is_open: bool
) -> None:
    edit(home.directory / "relay.toml", "cover =", f'metrics = "{address}"\ncover =')
    found = Relay(RelayHome.load(home.directory)).status().warnings
    assert found == ((METRICS_WARNING.format(address=address),) if is_open else ())


def test_status_is_for_people_as_well() -> None:
    memory = MemoryStatus(1 << 20, 1024, 2048, 4096, 1 << 20, 0)
    users = (UserStatus("anna", 1, 3, 7, 1024, 2048),)
    status = RelayStatus("127.0.0.1:443", "up", 1, 5, 3, 1, 2, {}, memory, users, ("beware",))
    lines = describe(status).splitlines()
    assert lines[0].startswith("listening on 127.0.0.1:443, up; 1 visitors now, 5 connections")
    assert lines[-2].split() == ["anna", "1", "3", "7", "1.0", "KiB", "2.0", "KiB"]
    assert lines[-1] == "warning: beware"


def test_without_a_relay_there_is_no_status(home: RelayHome) -> None:
    result = circumvent("relay", "status", home.directory)
    assert result.exit_code == FAILURE
    assert f"start it with: circumvent relay run {home.directory}" in result.output


def test_everywhere_is_no_address_for_users(tmp_path: Path) -> None:
    result = circumvent("relay", "init", tmp_path / "x", "--listen", "0.0.0.0:443")
    assert "--public is needed" in result.output


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("relay.toml", "carriers =", "colour =", "relay.toml: unknown key colour"),
        ("relay.toml", '"127.0.0.1:443"', '"127.0.0.1"', "relay.toml: cannot listen"),
        ("relay.toml", '"relay.example:443"', '"relay.example"', "relay.toml: public: port"),
        ("relay.toml", "knock_keys = [", 'knock_keys = ["AAAA", ', "knock_keys: is of 3 bytes"),
        ("relay.toml", "listen = ", "listen = 1 #", "relay.toml: listen: Expected `str`"),
        ("relay.toml", "listen = ", "listen ", "relay.toml: Expected '='"),
        ("relay.toml", "cover =", "memory = '1 KiB'\ncover =", "memory: 1 KiB is too little"),
        ("users.toml", "name =", "nick =", "users.toml: unknown key users[0].nick"),
        ("users.toml", "token = ", 'token = "AAAA" # ', "token: is of 3 bytes"),
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


def test_two_users_are_two(home: RelayHome) -> None:
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


def test_a_cover_site_must_be_there(home: RelayHome) -> None:
    edit(home.directory / "relay.toml", '"site"', '"elsewhere"')
    with pytest.raises(ConfigError, match="elsewhere is no directory"):
        _ = RelayHome.load(home.directory).site


@pytest.mark.parametrize(
    ("cover", "place"),
    [
        ("http://127.0.0.1:8080", Destination("127.0.0.1", 8080)),
        ("http://site.example/", Destination("site.example", 80)),
        ("http://[::1]:81", Destination("::1", 81)),
    ],
)
def test_a_cover_site_may_be_elsewhere(home: RelayHome, cover: str, place: Destination) -> None:
    edit(home.directory / "relay.toml", '"site"', f'"{cover}"')
    assert RelayHome.load(home.directory).site == place


@pytest.mark.parametrize("load", [keys.web_context, keys.inner_context])
def test_a_certificate_without_its_key_is_refused(
    home: RelayHome, load: Callable[[Path, Path], object]
) -> None:
    with pytest.raises(ConfigError, match="no certificate with its key"):
        load(home.identity[0], home.identity[0])
    with pytest.raises(ConfigError, match="is not a certificate"):
        keys.pin(home.identity[1])


def test_a_directory_without_a_relay_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with: circumvent relay init"):
        RelayHome.load(tmp_path)


class TestCover:
    """The cover site is shown to everybody: the relay's secrets never lie in it."""

    @pytest.mark.parametrize("cover", [".", "..", "../relay", "link", "site/../", "/"])
    def test_no_directory_that_holds_the_relays_own_is_a_site(
        self, home: RelayHome, cover: str
    ) -> None:
        (home.directory / "link").symlink_to(home.directory)
        edit(home.directory / "relay.toml", '"site"', f'"{cover}"')
        with pytest.raises(ConfigError, match=r"cover: .* would show .* to everybody"):
            RelayHome.load(home.directory)

    @pytest.mark.parametrize("cover", ["relay", ".", "link"])
    def test_init_makes_no_such_relay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cover: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "link").symlink_to(tmp_path)
        words = ("relay", "init", "relay", "--listen", "127.0.0.1:4443", "--cover", cover)
        made = circumvent(*words)
        assert made.exit_code == CONFIG
        assert "would show" in made.output
        assert not (tmp_path / "relay").exists()

    def test_nor_one_that_holds_the_key_of_its_certificate(self, home: RelayHome) -> None:
        files = make_certificate(home.directory / "site")
        with (home.directory / "relay.toml").open("a") as file:
            file.write(f'[tls]\ncertificate = "{files.chain}"\nkey = "{files.key}"\n')
        with pytest.raises(ConfigError, match="would show"):
            RelayHome.load(home.directory)

    def test_a_reload_refuses_it_as_well(self, home: RelayHome) -> None:
        relay = Relay(home)
        edit(home.directory / "relay.toml", '"site"', '"."')
        with pytest.raises(ConfigError, match="would show"):
            relay.reload()

    @pytest.mark.parametrize("kind", ["copy", "hard link", "other relay", "signer", "tail"])
    def test_keys_and_tokens_among_its_files_are_found(self, home: RelayHome, kind: str) -> None:
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

    def test_what_the_site_does_not_show_may_be_there(self, home: RelayHome) -> None:
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
    def test_the_relay_is_no_cover_site_itself(
        self, home: RelayHome, listen: str, cover: str
    ) -> None:
        file = home.directory / "relay.toml"
        edit(file, '"127.0.0.1:443"', f'"{listen}"')
        edit(file, 'cover = "site"', f'cover = "{cover}"\nmetrics = "127.0.0.1:9100"')
        with pytest.raises(ConfigError, match="is the relay's own"):
            _ = RelayHome.load(home.directory).site
