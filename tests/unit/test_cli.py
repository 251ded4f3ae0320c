"""The command line: what it answers, with which exit code, and that it keeps secrets."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner, Result

from circumvent.cli import links as pasted
from circumvent.cli import main
from circumvent.cli.app import COMMANDS
from circumvent.cli.run import choose_servers
from circumvent.client import Servers
from circumvent.config import Config
from circumvent.plugins import load_plugins
from circumvent.state.attempts import Attempt
from circumvent.state.store import Store
from circumvent.status.events import Event
from circumvent.status.snapshot import Status

SECRET = "correct-horse"
USER_INFO = base64.urlsafe_b64encode(f"aes-128-gcm:{SECRET}".encode()).decode().rstrip("=")
ANN = f"ss://{USER_INFO}@ann.test:8388#Ann"
BEN = f"trojan://{SECRET}@ben.test:443?sni=example.org#Ben"

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


def test_when_every_link_is_bad_each_is_named_and_nothing_starts(run: Run) -> None:
    result = run("run", ANN.replace("@", "@@"), "vmess://abc", SECRET, "ss://@:1")
    assert result.exit_code == 3
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


def test_a_wrong_configuration_names_the_file_and_the_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "circumvent").mkdir()
    (tmp_path / "circumvent" / "circumvent.toml").write_text("tunels = 3")
    result = run("run", ANN)
    assert result.exit_code == 3
    assert "circumvent.toml: unknown key tunels" in result.output


def test_the_environment_sets_options_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_one_bad_link_is_named_and_the_others_are_saved(run: Run) -> None:
    lines = ["\ufeff# friends", f"“{ANN}”,", "", "ss://nonsense", "<br>", "vmess://abc", "hello"]
    result = run("servers", "add", "-", "vmess://abc", typed="\r\n".join(lines))
    assert result.exit_code == 0
    (told,) = [line for line in result.output.splitlines() if line.startswith("warning: ")]
    assert told.startswith("warning: 4 of 5 links cannot be used: line 6, link #2: vmess:// is not")
    assert "; line 4: " in told
    assert "; line 7: is not a link" in told
    assert json.loads(run("servers", "list", "--json").output)[0]["name"] == "Ann"


def test_a_list_without_links_is_an_error(run: Run) -> None:
    result = run("servers", "add", "-", typed="\ufeff# none yet\n")
    assert result.exit_code == 3
    assert "no link was given" in result.output


def test_when_no_link_is_good_that_is_an_error_and_nothing_is_saved(run: Run) -> None:
    result = run("servers", "add", "-", typed="hello\nvmess://abc\n")
    assert result.exit_code == 3
    assert "Error: line 1: is not a link" in result.output
    assert json.loads(run("servers", "list", "--json").output) == []


@pytest.mark.parametrize("command", [("servers", "add"), ("init",)])
def test_what_people_have_is_kept_in_whatever_form_it_comes(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "mine.txt").write_text(f"news: https://ads.test/x\n{ANN}\nvmess://x\n")
    packed = base64.b64encode(f"{BEN}\nsub+https://other.test/list".encode()).decode()
    told = run(*command, str(tmp_path / "mine.txt")).output
    assert "mine.txt: 3 links" in told
    assert "warning: 2 of 3 links cannot be used" in told
    assert run(*command, f"data:text/plain;base64,{packed}").exit_code == 0
    assert run(*command, "https://list.test/x?token=1#mine").exit_code == 0
    assert len(json.loads(run("servers", "list", "--json").stdout)) == 2
    kept = json.loads(run("init", "--list", "--json").stdout)
    assert [(each["kind"], each["name"]) for each in kept] == [
        ("subscription", ""),
        ("subscription", "mine"),
    ]


def test_a_proxy_is_no_subscription_and_neither_is_the_configuration_of_others(run: Run) -> None:
    assert "https:// is not supported" in run("servers", "add", "https://192.0.2.1:8443#x").output
    for config, name in (
        ("proxies:\n- {name: a}", "Clash YAML"),
        ('{"outbounds": []}', "sing-box"),
    ):
        result = run("servers", "check", "-", typed=config)
        assert result.exit_code == 3
        assert f"{name}" in result.output
        assert "is not read yet" in result.output


def test_several_links_in_one_word_are_several_links(run: Run) -> None:
    assert "saved 2" not in run("servers", "add", f"{ANN}\n{BEN}").output
    assert len(json.loads(run("servers", "list", "--json").output)) == 2


class Notes:
    """A view that notes what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, event: Event) -> None:
        self.lines.append(str(event))

    async def follow(self, status: Callable[[], Status]) -> None:
        raise NotImplementedError


class TestOddLinks:
    """A link that cannot be used does not stop the others, wherever it was given."""

    def use(
        self, config: Config, given: tuple[pasted.PastedLink, ...] = ()
    ) -> tuple[Servers, list[str]]:
        view = Notes()
        transports = pasted.transports_of(load_plugins())
        links = pasted.parse_links(given or pasted.known_links(config), transports)
        servers = choose_servers(links, config, (), view)
        assert not any(SECRET in line or USER_INFO in line for line in view.lines)
        return servers, view.lines

    def test_good_links_are_used_and_bad_ones_are_named(self, tmp_path: Path) -> None:
        given = pasted.expand([ANN, "vmess://abc", f"{BEN}\n#no\nss://{SECRET}@h:1\nx\ny\n"])
        servers, lines = self.use(Config(state_dir=str(tmp_path)), given)
        assert [server.entry.name for server in servers.candidates] == ["Ann", "Ben"]
        (told,) = lines
        assert told.startswith(
            "warning: 4 of 6 links cannot be used: line 4, line 5: is not a link"
        )
        assert "; link #2: vmess:// is not supported" in told
        assert "; line 3: " in told

    def test_bad_links_of_the_configuration_are_named_too(self, tmp_path: Path) -> None:
        file = tmp_path / "links"
        file.write_text(f"hysteria2://{SECRET}@h:1\n{BEN}\ncircumvent://invite?{SECRET}\n")
        file.chmod(0o600)
        servers = ("sub+https://list.test/x", "“nonsense”")
        config = Config(servers=servers, servers_file=str(file), state_dir=str(tmp_path))
        found, lines = self.use(config)
        assert [server.entry.transport for server in found.candidates] == ["trojan"]
        assert [origin.link for origin in found.origins] == ["sub+https://list.test/x"]
        assert lines[0].startswith("warning: 3 of 5 links cannot be used: ")

    def test_many_reasons_are_summed_up_in_a_few_lines(self, tmp_path: Path) -> None:
        odd = [f"kind{number}://x" for number in range(9)] + ["hello"] * 9
        _, lines = self.use(Config(state_dir=str(tmp_path)), pasted.expand([ANN, *odd]))
        assert "link #11, link #12, link #13, link #14, link #15 and 4 more: is not" in lines[0]
        assert lines[0].endswith("; 6 more, for other reasons")


UNVERIFIED = f"trojan://{SECRET}@192.0.2.9:443?allowInsecure=1"
PLAIN = "vless://6ba7b810-9dad-11d1-80b4-00c04fd430c8@192.0.2.9:443?security=none"


class TestFloor:
    """Servers below the privacy floor are left out, and the user is told what they would give."""

    def test_when_none_is_left_it_says_what_a_lower_floor_gives_and_risks(self, run: Run) -> None:
        result = run("run", UNVERIFIED, PLAIN)
        assert result.exit_code == 4
        assert "no server is encrypted" in result.output
        assert "--privacy unverified: it would give 1 of 2" in result.output
        assert "whoever is in between when one is first used can read everything" in result.output

    @pytest.mark.parametrize(
        ("floor", "used", "told"),
        [
            ("encrypted", 1, "not used: 1 unverified, 1 plain"),
            ("unverified", 2, "not used: 1 plain"),
        ],
    )
    def test_of_a_mix_those_above_it_are_used_and_the_others_counted(
        self,
        tmp_path: Path,
        floor: Literal["encrypted", "unverified"],
        used: int,
        told: str,
    ) -> None:
        view = Notes()
        transports = pasted.transports_of(load_plugins())
        links = pasted.parse_links(pasted.expand([PLAIN, ANN, UNVERIFIED]), transports)
        config = Config(state_dir=str(tmp_path), privacy=floor)
        servers = choose_servers(links, config, (), view)
        assert len(servers.candidates) == used
        assert view.lines[-1].endswith(told)


def test_a_certificate_can_be_forgotten_and_goes_with_its_server(run: Run, store: Store) -> None:
    (server,) = json.loads(run("servers", "add", "--json", UNVERIFIED).output)
    for command in ("forget-certificate", "remove"):
        store.certificates.keep(server, b"key")
        assert run("servers", command, server).exit_code == 0
        assert not store.certificates.key_of(server)
    result = run("servers", "forget-certificate", server)
    assert result.exit_code == 1
    assert f"no certificate is remembered of: {server}" in result.output


def test_removing_an_unknown_server_fails(run: Run) -> None:
    result = run("servers", "remove", "a1b2c3")
    assert result.exit_code == 1
    assert "not saved: a1b2c3" in result.output


def test_testing_an_unknown_server_fails(run: Run) -> None:
    result = run("servers", "test", "a1b2c3")
    assert result.exit_code == 1
    assert "not saved: a1b2c3" in result.output


def test_testing_a_link_of_an_unknown_protocol_says_so(run: Run) -> None:
    result = run("servers", "test", "connect://192.0.2.1:1")
    assert result.exit_code == 3
    assert "connect:// is not supported" in result.output


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("status", "--check")])
def test_status_says_when_nothing_runs(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert "circumvent is not running; start it with: circumvent run" in result.output


def test_why_explains_what_happened(run: Run, store: Store) -> None:
    store.attempts.record(Attempt(0.0, "race", "a1b2c3", "dial", "failed", 111, 12.0, 4096))
    store.attempts.record(
        Attempt(1.0, "probe", "a1b2c3", "probe", "timeout", None, 5000.0, 0, "no answer")
    )
    store.attempts.record(Attempt(2.0, "race", "d4e5f6", "probe", "ok", None, 34.0, 20480))
    store.close()
    lines = run("why").output.splitlines()
    assert len(lines) == 4
    assert "ok" in lines[1]
    assert "timeout at probe" in lines[2]
    assert re.search(
        r"race +a1b2c3 +failed at dial +ECONNREFUSED +12 ms +4\.0 KiB +nothing listens", lines[3]
    )


def test_why_can_be_limited(run: Run, store: Store) -> None:
    for number, outcome in enumerate(("ok", "failed", "failed")):
        store.attempts.record(Attempt(number, "race", f"server{number}", "dial", outcome, 104))
    store.close()
    assert len(json.loads(run("why", "--json", "--failures").output)) == 2
    assert len(json.loads(run("why", "--json", "--limit", "1").output)) == 1
    (only,) = json.loads(run("why", "--json", "--server", "server1").output)
    assert (only["errno_name"], only["outcome"]) == ("ECONNRESET", "failed")
    assert "the connection was cut" in only["why"]


def test_why_says_when_nothing_was_tried(run: Run) -> None:
    assert "nothing was tried yet" in run("why").output
    assert json.loads(run("why", "--json").output) == []


def test_a_state_directory_that_cannot_be_used_is_a_configuration_error(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("why", "--state-dir", str(tmp_path / "file"))
    assert result.exit_code == 3
    assert "choose another --state-dir" in result.output


def test_the_version_is_printed(run: Run) -> None:
    assert re.fullmatch(r"circumvent, version \d+\.\d+\.\d+\n", run("--version").output)


def test_a_list_is_checked_line_by_line_and_nothing_is_saved(run: Run, tmp_path: Path) -> None:
    unverified = BEN.replace("?", "?allowInsecure=1&")
    listed = f"# mine\n{ANN}\n\n  • {BEN}\nvmess://{SECRET}\n{unverified} {ANN}\njust words\n"
    (tmp_path / "links.txt").write_text(listed)
    result = run("servers", "check", str(tmp_path / "links.txt"), "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["accepted"], answer["unverified"]) == (0, 3, 1)
    assert [each["line"] for each in answer["refused"]] == [5, 7]
    assert "vmess:// is not supported" in answer["refused"][0]["reason"]
    assert run("servers", "list").stdout.startswith("no server is saved")
    told = run("servers", "check", typed=base64.b64encode(listed.encode()).decode()).stdout
    assert told.startswith("3 can be used\n1 more with --privacy unverified")
    assert "  line 5: vmess:// is not supported" in told


def test_a_list_without_anything_usable_is_an_error(run: Run, tmp_path: Path) -> None:
    result = run("servers", "check", "-", "--json", typed=f"vmess://{SECRET}")
    assert (result.exit_code, json.loads(result.stdout)["accepted"]) == (3, 0)
    result = run("servers", "check", str(tmp_path / "missing"))
    assert result.exit_code == 3
    assert "cannot be used" in result.output
