"""A relay's directory, made for a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from circumvent.cli.app import main
from circumvent.relay import setup
from circumvent.relay.home import RelayHome

WANTED = setup.NewRelay(listen="127.0.0.1:443", public="relay.example:443")


@pytest.fixture(name="home")
def made_relay(tmp_path: Path) -> RelayHome:
    return setup.create(tmp_path / "relay", WANTED)


def circumvent(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
