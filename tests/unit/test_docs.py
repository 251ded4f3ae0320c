"""The guide for plugin writers names everything that a plugin writer meets, as it really is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from circumvent.api import Dialer, Transport, Tunnel, exchange, hooks

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"


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
CONTRACTS = [*public(Transport), *public(Tunnel), *public(Dialer)]
HELPERS = [
    (f"circumvent.api.exchange.{function.__name__}", function)
    for function in (exchange.send, exchange.receive, exchange.peek)
]


@pytest.mark.parametrize(("name", "function"), [*HOOKS, *CONTRACTS, *HELPERS])
def test_the_guide_has_every_hook_and_contract_with_its_signature(
    name: str, function: Callable[..., object]
) -> None:
    assert f"`{shown(name, function)}`" in GUIDE.read_text()


def test_there_are_hooks_to_document() -> None:
    assert len(HOOKS) == 3
