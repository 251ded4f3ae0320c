"""The import graph has no circle, and the tool that says so would see one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import architecture

LONGEST_FILE = 400  # lines


def package(folder: Path, name: str, **files: str) -> None:
    """A package of these modules."""
    (folder / name).mkdir()
    for module, text in {"__init__": "", **files}.items():
        (folder / name / f"{module}.py").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def ours() -> dict[str, architecture.Module]:
    return architecture.modules()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose package ``some`` is looked at instead of ours."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(architecture, "PACKAGES", ("some",))
    return tmp_path


def test_no_module_imports_itself_through_others(ours: dict[str, architecture.Module]) -> None:
    assert architecture.cycle(ours) == []


def test_no_file_is_too_long(ours: dict[str, architecture.Module]) -> None:
    assert [name for name, each in ours.items() if each.lines > LONGEST_FILE] == []


def test_all_modules_are_looked_at(ours: dict[str, architecture.Module]) -> None:
    assert ours["circumvent.session.session"].imports >= {
        "circumvent.session.carrier_io",
        "circumvent.session.engine.engine",
    }
    assert any(name.startswith("circumvent_plugins.") for name in ours)


@pytest.mark.parametrize(
    "back",
    [
        "import some.first",
        "from some import first",
        "from . import first",
        "from .first import name",
        "def later():\n    from some.first import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from some.first import name",
    ],
)
def test_a_circle_is_found_whatever_its_imports_look_like(elsewhere: Path, back: str) -> None:
    package(elsewhere, "some", first="from some.second import name\n", second=f"{back}\n")
    assert set(architecture.cycle(architecture.modules())) == {"some.first", "some.second"}


def test_modules_that_both_import_a_third_are_no_circle(elsewhere: Path) -> None:
    package(elsewhere, "some", first="import some.third", second="import some.third", third="")
    assert architecture.cycle(architecture.modules()) == []


def test_the_figures_name_the_longest(elsewhere: Path) -> None:
    package(elsewhere, "some", first="def go():\n    return 1\n", second="def stay(): ...\n")
    assert list(architecture.figures(architecture.modules())) == [
        "files: 3, median 1 lines, longest 2 (some.first)",
        "functions: 2, median 1.5 lines, longest 2 (some.first.go)",
        "cycle of imports: none",
    ]


def test_the_page_on_the_architecture_shows_the_rooms_as_they_are(
    ours: dict[str, architecture.Module],
) -> None:
    shown = architecture.PAGE.read_text(encoding="utf-8")
    assert architecture.picture(ours) in shown, "draw it anew: make picture"


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    imports = {"a.one": {"b", "c"}, "b": {"c"}, "c": set()}
    found = {
        f"circumvent.{name}": architecture.Module(
            1, (), frozenset(f"circumvent.{to}" for to in own)
        )
        for name, own in imports.items()
    }
    assert architecture.picture(found).split("\n")[2:-1] == ["    a --> b", "    b --> c"]
