"""Configuration: what is accepted, who wins, and what the user is told when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from circumvent.api import Privacy
from circumvent.config import Config, list_links, load
from circumvent.errors import ConfigError
from circumvent.inbound.options import Credentials
from circumvent.typed_toml import parse_size

EXAMPLE = Path(__file__).parents[2] / "config" / "circumvent.toml"
LINK = "ss://c2VjcmV0@192.0.2.7:8388#Ann"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "circumvent.toml"


def test_the_example_says_the_defaults() -> None:
    assert load(EXAMPLE) == Config()


def test_the_example_names_every_key() -> None:
    text = EXAMPLE.read_text()
    fields = (*Config.__struct_fields__, "allow", "clients", "idle_minutes")
    assert [name for name in fields if name not in text] == []


def test_without_a_file_the_defaults_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load(None) == Config()


def test_the_file_at_the_usual_place_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "circumvent").mkdir()
    write(tmp_path / "circumvent" / "circumvent.toml", "tunnels = 2")
    assert load(None).tunnels == 2


def test_the_command_line_wins_over_the_file(file: Path) -> None:
    write(file, 'tunnels = 2\nprivacy = "plain"')
    config = load(file, {"tunnels": 5})
    assert (config.tunnels, config.privacy_floor) == (5, Privacy.PLAIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tunels = 2", "unknown key tunels: remove it or correct its name"),
        ("[limits]\nclient = 2", "unknown key limits.client: remove it"),
        ('tunnels = "many"', "tunnels: Expected `int`, got `str`"),
        ("tunnels = 0", "tunnels: Expected `int` >= 1"),
        ("[limits]\nidle_minutes = 0", "limits.idle_minutes: Expected"),
        ('privacy = "none"', "privacy: Invalid enum value 'none'"),
        ('memory = "lots"', 'memory: "lots" is not a size: write it as "16 MiB"'),
        ('arena = "x"', 'arena: "x" is not a size'),
        ('memory = "3 KiB"', "at least 1 MiB"),
        ('listen = "1080"', "cannot listen on '1080': write HOST:PORT"),
        ('listen = "127.0.0.1:70000"', "write HOST:PORT"),
        (
            'probe_urls = ["https://x"]',
            "probe_urls: number 1 is https://, but a probe speaks no TLS",
        ),
        ("probe_urls = []", "probe_urls: Expected"),
        ("tunnels = 3\ntunnels", "at end of document"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_advice(file: Path, text: str, message: str) -> None:
    write(file, text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_wrong_override_does_not_blame_the_file(file: Path) -> None:
    write(file, "")
    with pytest.raises(ConfigError, match=r"^command line or environment: memory"):
        load(file, {"memory": "lots"})


def test_a_missing_file_is_an_error_when_it_was_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(file)


@pytest.mark.parametrize(
    ("text", "size"), [("16 MiB", 16 << 20), ("1.5GiB", 3 << 29), ("1048576", 1 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("memory", text) == size


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:1080", ("127.0.0.1", 1080)), ("[::1]:0", ("::1", 0))],
)
def test_listen_addresses(listen: str, address: tuple[str, int]) -> None:
    options = Config(listen=listen).inbound()
    assert (options.host, options.port) == address


def test_limits_reach_the_inbound(file: Path) -> None:
    write(file, "[limits]\nclients = 7\nidle_minutes = 2")
    options = load(file).inbound()
    assert (options.max_clients, options.idle_seconds) == (7, 120)


def test_strangers_need_a_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lets others in: set a user name and a password"):
        Config(listen="0.0.0.0:1080").inbound()
    password = write(tmp_path / "password", "sesame\n")
    open_to_all = Config(listen="[::]:1080", user="ann", password_file=str(password))
    assert open_to_all.inbound().credentials == Credentials("ann", "sesame")


@pytest.mark.parametrize("listen", ["127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_password(listen: str) -> None:
    Config(listen=listen).inbound()


def test_user_and_password_belong_together() -> None:
    with pytest.raises(ConfigError, match="set both or none"):
        Config(user="ann").credentials()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o700])
def test_a_secret_that_others_may_read_is_refused_with_the_remedy(
    tmp_path: Path, mode: int
) -> None:
    password = write(tmp_path / "password", "sesame", mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}; run: chmod 600 '{password}'"):
        Config(user="ann", password_file=str(password)).credentials()


def test_a_configuration_with_links_is_a_secret(file: Path) -> None:
    write(file, f'servers = ["{LINK}"]', 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(file)
    file.chmod(0o600)
    assert load(file).links() == (LINK,)


def test_links_come_from_a_file_beside_the_configuration(file: Path) -> None:
    write(file, f'servers = ["{LINK}"]\nservers_file = "servers.txt"')
    write(file.with_name("servers.txt"), f"# friends\n\n{LINK}2\n")
    assert load(file).links() == (LINK, LINK + "2")


def test_an_empty_password_file_is_refused(tmp_path: Path) -> None:
    password = write(tmp_path / "password", "\n")
    with pytest.raises(ConfigError, match="is empty"):
        Config(user="ann", password_file=str(password)).credentials()


def test_a_comment_is_a_whole_line_because_links_have_names_after_a_hash() -> None:
    assert list_links(f"  {LINK}  \n#no\n") == (LINK,)


def test_state_and_socket_move_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert Config().state_file == tmp_path / "state" / "circumvent" / "state.db"
    moved = Config(state_dir=str(tmp_path))
    assert moved.state_file.parent == tmp_path
    assert [socket.parent for socket in moved.control_sockets] == [tmp_path]


def test_the_socket_is_in_the_runtime_directory_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    beside = tmp_path / "state" / "circumvent" / "control.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Config().control_sockets == (tmp_path / "circumvent" / "control.sock", beside)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert Config().control_sockets == (beside,)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)  # as after su
    assert Config().control_sockets == (beside,)
