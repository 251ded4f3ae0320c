"""The command line: what it answers, with which exit code, and that it keeps secrets."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from circumvent.cli import main
from circumvent.cli.app import COMMANDS
from circumvent.tunnels.attempts import Attempt
from circumvent.tunnels.store import Store

SECRET = "correct-horse"
USER_INFO = base64.urlsafe_b64encode(f"aes-128-gcm:{SECRET}".encode()).decode().rstrip("=")
ANN = f"ss://{USER_INFO}@192.0.2.7:8388#Ann"
BEN = f"trojan://{SECRET}@192.0.2.8:443?sni=example.org#Ben"

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with a state directory and no configuration of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CIRCUMVENT_STATE_DIR", str(tmp_path / "state"))

    def invoke(*arguments: str, typed: str = "") -> Result:
        result = CliRunner().invoke(main, arguments, input=typed)
        assert SECRET not in result.output
        assert USER_INFO not in result.output
        return result

    return invoke


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "state.db")


def test_the_help_teaches_with_examples_and_exit_codes(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "circumvent run 'ss://...'" in result.output
    assert "130  stopped at once" in result.output
    assert all(f"\n  {command} " in result.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"\n +circumvent {command}", result.output)


@pytest.mark.parametrize(
    "arguments",
    [("walk",), ("run", "--fast"), ("run", "--tunnels", "0"), ("servers", "add"), ("why", "now")],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_each_bad_link_is_named_and_nothing_starts(run: Run) -> None:
    result = run("run", ANN, "vmess://abc", SECRET, "ss://@:1")
    assert result.exit_code == 3
    assert "link #1" not in result.output
    assert "link #2: vmess:// is not supported; supported: " in result.output
    assert 'link #3: is not a link: it must start like "ss://"' in result.output
    assert "link #4: " in result.output


def test_without_any_server_there_is_nothing_to_run(run: Run) -> None:
    result = run("run")
    assert result.exit_code == 4
    assert "circumvent servers add LINK" in result.output


def test_strangers_are_kept_out_before_anything_starts(run: Run) -> None:
    result = run("run", "--listen", "0.0.0.0:1080", ANN)
    assert result.exit_code == 3
    assert "lets others in" in result.output


def test_a_wrong_configuration_is_told_with_its_place(run: Run, tmp_path: Path) -> None:
    (tmp_path / "circumvent").mkdir()
    (tmp_path / "circumvent" / "circumvent.toml").write_text("tunels = 3")
    result = run("run", ANN)
    assert result.exit_code == 3
    assert "circumvent.toml: unknown key tunels" in result.output


def test_the_environment_configures_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRCUMVENT_MEMORY", "lots")
    result = run("run", ANN)
    assert result.exit_code == 3
    assert '"lots" is not a size' in result.output


def test_servers_are_added_listed_and_removed(run: Run) -> None:
    added = run("servers", "add", ANN, BEN)
    assert added.exit_code == 0, added.output
    assert added.output.count("saved ") == 2
    listed = json.loads(run("servers", "list", "--json").output)
    assert [(server["transport"], server["name"]) for server in listed] == [
        ("shadowsocks", "Ann"),
        ("trojan", "Ben"),
    ]
    assert run("servers", "remove", listed[0]["id"]).exit_code == 0
    assert "Ann" not in run("servers", "list").output


def test_links_come_from_standard_input(run: Run) -> None:
    assert run("servers", "add", "-", typed=f"# friends\n{ANN}\n\n{BEN}\n").exit_code == 0
    assert len(json.loads(run("servers", "list", "--json").output)) == 2


def test_one_bad_link_and_none_is_saved(run: Run) -> None:
    assert run("servers", "add", ANN, "ss://nonsense").exit_code == 3
    assert json.loads(run("servers", "list", "--json").output) == []


def test_removing_what_is_not_there_fails(run: Run) -> None:
    result = run("servers", "remove", "a1b2c3")
    assert result.exit_code == 1
    assert "not saved: a1b2c3" in result.output


def test_testing_what_is_not_there_fails(run: Run) -> None:
    result = run("servers", "test", "a1b2c3")
    assert result.exit_code == 1
    assert "not saved: a1b2c3" in result.output


def test_testing_a_link_that_nobody_speaks_says_so(run: Run) -> None:
    result = run("servers", "test", "connect://192.0.2.1:1")
    assert result.exit_code == 3
    assert "connect:// is not supported" in result.output


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("status", "--check")])
def test_status_says_when_nothing_runs(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert "circumvent is not running; start it with: circumvent run" in result.output


def test_why_tells_in_words_what_happened(run: Run, store: Store) -> None:
    store.record(Attempt(0.0, "race", "a1b2c3", "dial", "failed", 111, 12.0, 4096))
    store.record(Attempt(1.0, "probe", "a1b2c3", "probe", "timeout", None, 5000.0, 0, "no answer"))
    store.record(Attempt(2.0, "race", "d4e5f6", "probe", "ok", None, 34.0, 20480))
    store.close()
    lines = run("why").output.splitlines()
    assert len(lines) == 4
    assert "ok" in lines[1]
    assert "timeout at probe" in lines[2]
    assert re.search(
        r"race +a1b2c3 +failed at dial +ECONNREFUSED +12 ms +4\.0 KiB +nothing listens", lines[3]
    )


def test_why_can_be_asked_for_less(run: Run, store: Store) -> None:
    for number, outcome in enumerate(("ok", "failed", "failed")):
        store.record(Attempt(number, "race", f"server{number}", "dial", outcome, 104))
    store.close()
    assert len(json.loads(run("why", "--json", "--failures").output)) == 2
    assert len(json.loads(run("why", "--json", "--limit", "1").output)) == 1
    (only,) = json.loads(run("why", "--json", "--server", "server1").output)
    assert (only["errno_name"], only["outcome"]) == ("ECONNRESET", "failed")
    assert "cut the connection" in only["why"]


def test_why_says_when_there_is_nothing_to_tell(run: Run) -> None:
    assert "nothing was tried yet" in run("why").output
    assert json.loads(run("why", "--json").output) == []


def test_a_state_directory_that_cannot_be_used_is_a_configuration_error(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("why", "--state-dir", str(tmp_path / "file"))
    assert result.exit_code == 3
    assert "choose another --state-dir" in result.output


def test_the_version_is_told(run: Run) -> None:
    assert re.fullmatch(r"circumvent, version \d+\.\d+\.\d+\n", run("--version").output)
