"""What the documentation says exists, exists: hooks, contracts, files, commands, variables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

from circumvent import threads
from circumvent.api import Carrier, Dialer, Layer, StreamLayer, Transport, Tunnel, hooks
from circumvent.cli.app import COMMANDS
from circumvent.cli.run import run
from circumvent.layers import exchange

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "writing-a-plugin.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]+)")
COMMAND = re.compile(r"(?:^\$ |`|/bin/)circumvent (?P<name>[a-z]+)", re.MULTILINE)
VARIABLE = re.compile(r"CIRCUMVENT_[A-Z_]+[A-Z]")


def shown(name: str, function: Callable[..., object]) -> str:
    """A function as the guide writes it: without ``self``, annotations as in the source."""
    signature = inspect.signature(function)
    parameters = [value for key, value in signature.parameters.items() if key != "self"]
    text = str(signature.replace(parameters=parameters)).replace("'", "")
    return f"{name}{text}"


def public(owner: type) -> list[tuple[str, Callable[..., object]]]:
    return [
        (f"{owner.__name__}.{name}", member)
        for name, member in vars(owner).items()
        if inspect.isfunction(member) and not name.startswith("_")
    ]


HOOKS = [
    (name, function)
    for name, function in inspect.getmembers(hooks, inspect.isfunction)
    if name.startswith("circumvent_")
]
CONTRACTS = [
    *public(Transport),
    *public(Tunnel),
    *public(Carrier),
    *public(Dialer),
    *public(Layer),
    ("StreamLayer.start", StreamLayer.start),
]
HELPERS = [
    (f"circumvent.layers.exchange.{function.__name__}", function)
    for function in (exchange.send, exchange.receive, exchange.peek)
] + [("circumvent.threads.in_thread", threads.in_thread)]


def test_the_guide_has_every_hook_and_contract_with_its_signature() -> None:
    guide = GUIDE.read_text()
    written = [f"`{shown(*each)}`" for each in (*HOOKS, *CONTRACTS, *HELPERS)]
    assert [each for each in written if each not in guide] == []


def test_there_are_hooks_to_document() -> None:
    assert len(HOOKS) == 3


def test_links_between_pages_lead_somewhere() -> None:
    links = [(page, match["target"]) for page in PAGES for match in LINK.finditer(page.read_text())]
    assert [(page.name, to) for page, to in links if not (page.parent / to).exists()] == []


def test_commands_that_are_shown_exist() -> None:
    named = [(page.name, name) for page in PAGES for name in COMMAND.findall(page.read_text())]
    assert [each for each in named if each[1] not in COMMANDS] == []


def test_variables_that_are_named_belong_to_an_option_of_run() -> None:
    known = {f"CIRCUMVENT_{parameter.name}".upper() for parameter in run.params}
    known |= {str(parameter.envvar) for parameter in run.params if parameter.envvar}
    pages = [*PAGES, ROOT / "Dockerfile"]
    named = [(page.name, name) for page in pages for name in VARIABLE.findall(page.read_text())]
    assert [each for each in named if each[1] not in known] == []
