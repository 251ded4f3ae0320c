"""Text files: how an editor saves them changes nothing of what they say."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from circumvent.config import Config, load
from circumvent.errors import ConfigError
from circumvent.inbound.options import Credentials
from circumvent.texts import decode_text

TEXT = "one\ntwo é\n"
LINK = "ss://YWVzLTEyOC1nY206cw@192.0.2.7:8388"


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\r\n").encode("utf-16"),
    ],
)
def test_marks_and_line_ends_are_no_part_of_a_text(data: bytes) -> None:
    assert decode_text(data) == TEXT


def test_a_mark_within_a_text_stays() -> None:
    assert decode_text("a\ufeffb".encode()) == "a\ufeffb"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_configuration_is_read_as_editors_save_it(
    tmp_path: Path, encoding: str, end: str
) -> None:
    lines = ("tunnels\u00a0= 2 \u00a0", 'servers_file = "links"', "")
    file = save(tmp_path / "c.toml", end.join(lines).encode(encoding))
    save(tmp_path / "links", f"{LINK}#a \u00a0{end}{end}{LINK}#b{end}".encode(encoding))
    config = load(file)
    assert config.tunnels == 2
    assert config.links() == (f"{LINK}#a", f"{LINK}#b")


def test_a_line_that_is_no_text_does_not_spoil_the_list(tmp_path: Path) -> None:
    links = save(tmp_path / "links", LINK.encode() + b"#\xb6\xab\n" + LINK.encode() + b"#b\n")
    assert Config(servers_file=str(links)).links()[1] == f"{LINK}#b"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r", " \n", "\u00a0\n"])
def test_a_password_keeps_its_blanks_but_not_what_an_editor_adds(tmp_path: Path, end: str) -> None:
    file = save(tmp_path / "password", f"open  sesame\u00a0now{end}".encode("utf-8-sig"))
    config = Config(user="ann", password_file=str(file))
    assert config.credentials() == Credentials("ann", "open  sesame\u00a0now")


def test_a_password_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "password", b"ses\xffame")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config(user="ann", password_file=str(file)).credentials()
