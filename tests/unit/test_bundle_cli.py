"""``circumvent bundle``: what an operator types, and what he is told."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from circumvent.cli import main
from circumvent.links.invite import parse_invite
from circumvent.wire import dsse
from circumvent.wire.bundle import (
    Bundle,
    format_bundle,
    make_envelope,
    open_bundle,
    parse_bundle,
)
from circumvent.wire.keys import KeyKind, parse_key

LINKS = "# ours\ntrojan://pass1@192.0.2.1:443#One\n\ntrojan://pass2@192.0.2.2:443?sni=a.test#Two\n"
SOURCE = "https://mirror.test/friends"
DAY = 86400

Run = Callable[[str], Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type a command after ``circumvent bundle``, in a directory with links and two signers."""
    monkeypatch.chdir(tmp_path)
    Path("links").write_text(LINKS)

    def type_in(line: str) -> Result:
        return CliRunner().invoke(main, ["bundle", *line.split()])

    for line in ("--out a", "--out b", "--bucket --out friends"):
        assert type_in(f"keygen {line}").exit_code == 0
    return type_in


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def test_a_secret_key_is_for_its_owner_alone(run: Run) -> None:
    assert stat.S_IMODE(Path("a").stat().st_mode) == 0o700
    for name in ("a/key", "friends/bucket"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
        assert Path(name).read_text().strip() not in ok(run(f"keygen --out {name}-2")).output


def test_keys_are_never_overwritten(run: Run) -> None:
    before = Path("a/key").read_text()
    result = run("keygen --out a")
    assert result.exit_code == 3
    assert "a/key is there already" in result.output
    assert Path("a/key").read_text() == before


def test_what_one_signs_others_verify(run: Run) -> None:
    ok(run("sign --key a/key --links links --version 1 --days 7 -o list"))
    result = ok(run("verify --trust a/key.pub list"))
    assert "good: version 1, 2 entries, expires in 7 d" in result.output
    assert json.loads(run("verify --trust a/key.pub list --json").output)["ok"] is True


def test_a_threshold_is_reached_in_several_runs(run: Run) -> None:
    for _ in range(2):
        ok(run("sign --key a/key --links links --version 1 --days 7 -o list"))
    result = run("verify --trust a/key.pub --trust b/key.pub list")
    assert result.exit_code == 1
    assert result.stderr == "Error: too few of those whom you trust have signed it (1 of 2)\n"
    ok(run("verify --trust a/key.pub b/key.pub --threshold 1 list"))
    ok(run("sign --key b/key --links links --version 1 --days 7 -o list"))
    ok(run("verify --trust a/key.pub b/key.pub list"))


def test_a_sealed_list_is_signed_by_others_without_reading_it(run: Run) -> None:
    ok(run("sign --key a/key --links links --version 1 --days 7 --bucket friends/bucket.pub -o s"))
    ok(run("sign --key b/key -o s"))
    ok(run("verify --trust a/key.pub b/key.pub --bucket friends/bucket s"))
    result = run("verify --trust a/key.pub s")
    assert result.exit_code == 1
    assert "it is sealed: name the bucket's secret key with --bucket" in result.stderr


def test_both_sign_at_once(run: Run) -> None:
    result = ok(run("sign --key a/key b/key --links links --version 1 --days 7 -o list --json"))
    assert len(json.loads(result.output)["signers"]) == 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_says_one_thing_only(run: Run, version: int) -> None:
    ok(run("sign --key a/key --links links --version 2 --days 7 -o list"))
    Path("links").write_text("trojan://other@192.0.2.3:443")
    result = run(f"sign --key a/key --links links --version {version} --days 7 -o list")
    assert result.exit_code == 3
    assert "holds another list of version 2: take a higher --version" in result.output
    ok(run("sign --key a/key --links links --version 3 --days 7 -o list"))


@pytest.mark.parametrize(
    ("arguments", "reason", "fault"),
    [
        ("--trust b/key.pub list", "nobody whom you trust has signed it", "wrong_key"),
        ("--trust a/key.pub --newest 2 list", "(version 1 after 2)", "rolled_back"),
        ("--trust a/key.pub --bucket friends/bucket list", "another invite", "not_for_you"),
        ("--trust a/key.pub links", "this is not a bundle", "not_a_bundle"),
    ],
)
def test_what_is_not_good_is_told_on_standard_error(
    run: Run, arguments: str, reason: str, fault: str
) -> None:
    ok(run("sign --key a/key --links links --version 1 --days 7 -o list"))
    result = run(f"verify {arguments}")
    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stdout == ""
    assert json.loads(run(f"verify {arguments} --json").stdout)["fault"] == fault


@pytest.mark.parametrize(
    ("days", "reason"), [(-9, "from the future"), (8, "expired"), (-0.1, "is 2 h behind")]
)
def test_time_is_judged(run: Run, days: float, reason: str) -> None:
    Path("list").write_bytes(signed_a_week_before_its_end(days))
    assert reason in run("verify --trust a/key.pub list").stderr


def signed_a_week_before_its_end(days: float) -> bytes:
    """A bundle that ``a`` signed so many days ago."""
    issued = round(time.time() - days * DAY)
    bundle = Bundle(version=1, issued=issued, expires=issued + 7 * DAY, entries=())
    signer = parse_key(Path("a/key").read_text(), KeyKind.SIGNER)
    return format_bundle(dsse.sign(make_envelope(bundle), signer.raw))


def test_only_a_trusted_key_is_taken_for_one(run: Run) -> None:
    result = run("verify --trust a/key links")
    assert result.exit_code == 3
    assert 'a/key: is an ed25519-secret key; needed: "ed25519-public:"' in result.output
    assert "links: is no key" in run("verify --trust links links").output


def test_a_secret_that_others_can_read_is_refused(run: Run) -> None:
    Path("a/key").chmod(0o644)
    result = run("sign --key a/key --links links --version 1 --days 7 -o list")
    assert result.exit_code == 3
    assert "chmod 600 'a/key'" in result.output


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ("vless://secret@192.0.2.1", "link #1: port: missing"),
        ("trojan://x@192.0.2.1:443\nnonsense", "link #2: is not a link"),
        ("# nothing\n", "links: there is none in the file"),
    ],
)
def test_links_that_nobody_could_use_are_not_signed(run: Run, links: str, problem: str) -> None:
    Path("links").write_text(links)
    result = run("sign --key a/key --links links --version 1 --days 7 -o list")
    assert result.exit_code == 3
    assert problem in result.output
    assert not Path("list").exists()


def test_links_of_other_clients_are_signed_with_a_warning(run: Run) -> None:
    Path("links").write_text("snow://x@192.0.2.1:443")
    result = ok(run("sign --key a/key --links links --version 1 --days 7 -o list"))
    assert "snow:// is not supported" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "sign --key a/key -o none",
        "sign --key a/key --links links -o list",
        "sign --key a/key --links links --version 0 --days 7 -o list",
        "sign --key a/key --links links --version 1 --days 7 --source mirror -o list",
        "verify --trust a/key.pub none",
        "invite --trust a/key.pub",
        "zone --zone b.test --name-server ns.b.test links",
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: str) -> None:
    assert run(arguments).exit_code == 2


def test_show_keeps_the_links_to_itself_unless_asked(run: Run) -> None:
    sealed = f"--bucket friends/bucket.pub --source {SOURCE}"
    ok(run(f"sign --key a/key --links links --version 4 --days 7 {sealed} -o s"))
    outside = ok(run("show s")).output
    assert "contents   sealed" in outside
    assert "version" not in outside
    inside = ok(run("show --bucket friends/bucket s")).output
    assert "entries    2 trojan" in inside
    assert f"source     {SOURCE}" in inside
    assert "pass1" not in inside
    links = ok(run("show --bucket friends/bucket --links s")).output
    assert links.splitlines() == [line for line in LINKS.splitlines() if "://" in line]
    assert json.loads(run("show s --json").output)["contents"] is None


def test_keys_are_changed_by_a_list_that_old_and_new_ones_sign(run: Run) -> None:
    ok(run("sign --key a/key --links links --version 2 --days 7 --next b/key.pub -o list"))
    result = run("verify --trust a/key.pub list")
    assert "(0 of 1 of the next keys that it names)" in result.stderr
    ok(run("sign --key b/key -o list"))
    for trusted in ("a", "b"):
        ok(run(f"verify --trust {trusted}/key.pub list"))
    assert "next keys  1 of " in run("show list").output


def test_a_web_host_serves_what_was_signed_and_lists_nothing(run: Run) -> None:
    for name in ("one", "two"):
        ok(run(f"sign --key a/key --links links --version 1 --days 7 -o {name}"))
    ok(run("publish-dir --out www one two"))
    assert {path.name for path in Path("www").iterdir()} == {"index.html", "one", "two"}
    assert Path("www/two").read_bytes() == Path("two").read_bytes()
    assert stat.S_IMODE(Path("www/two").stat().st_mode) == 0o644
    assert run("publish-dir --out www links").exit_code == 1


def test_an_outsider_reads_all_that_is_published_and_learns_nothing(run: Run) -> None:
    """Nor does somebody who holds the invite of another bucket."""
    ok(run("keygen --bucket --out others"))
    sealed = f"--bucket friends/bucket.pub --source {SOURCE} -o s"
    ok(run(f"sign --key a/key --links links --version 1 --days 7 {sealed}"))
    ok(run("publish-dir --out www s"))
    zone = ok(run("zone --zone list.test --name-server ns.test s")).output
    published = Path("www/s").read_bytes()
    envelope = parse_bundle(published)
    for seen in (zone.encode(), published, envelope.payload):
        for secret in (b"192.0.2", b"pass1", b"trojan", b"mirror.test"):
            assert secret not in seen
    for stranger in ("", "--bucket others/bucket"):
        verdict = json.loads(run(f"verify --json --trust a/key.pub {stranger} www/s").stdout)
        assert verdict["fault"] == "not_for_you"


def test_an_invite_opens_what_was_sealed_for_it(run: Run) -> None:
    ok(run("sign --key a/key --links links --version 1 --days 7 --bucket friends/bucket.pub -o s"))
    result = ok(
        run(f"invite --trust a/key.pub --bucket friends/bucket --source {SOURCE} --name Ann")
    )
    invite = parse_invite(result.output)
    assert (invite.sources, invite.name) == ((SOURCE,), "Ann")
    bundle = open_bundle(Path("s").read_bytes(), invite.trust, invite.bucket, time.time())
    assert len(bundle.entries) == 2


def test_an_invite_is_drawn_for_a_camera(run: Run) -> None:
    drawn = ok(run(f"invite --trust a/key.pub --source {SOURCE} --qr")).output.splitlines()[1:]
    assert len({len(line) for line in drawn if line}) == 1
    assert set("".join(drawn)) <= set(" █▀▄")
