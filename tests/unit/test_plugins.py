"""Plugins are found by entry point, allowed by distribution, and broken ones are left out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from circumvent.plugins import Plugins, load_plugins
from circumvent.tunnels.relay_transport import RelayTransport

FIRST_PARTY_SCHEMES = {"ss", "trojan", "vless"}

GOOD = """
    from circumvent.api import Transport, hookimpl

    class Carrot(Transport):
        name = "carrot"
        schemes = ("carrot",)

        def parse(self, link): ...
        def privacy(self, entry): ...
        def cost(self, entry): ...
        async def connect(self, entry, dialer, account): ...

    @hookimpl
    def circumvent_transports():
        return [Carrot()]
"""


class Shop:
    """Installs distributions with one plugin each, as pip would leave them on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def install(self, module: str, source: str, distribution: str = "carrot-tunnel") -> None:
        (self.folder / f"{module}.py").write_text(dedent(source))
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        points = info / "entry_points.txt"
        known = points.read_text() if points.exists() else "[circumvent]\n"
        points.write_text(f"{known}{module} = {module}\n")
        self.modules.append(module)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.syspath_prepend(tmp_path)
    shop = Shop(tmp_path)
    yield shop
    for module in shop.modules:
        sys.modules.pop(module, None)


def only_problem(plugins: Plugins) -> tuple[str, str, str]:
    (problem,) = plugins.problems
    return problem.name, problem.distribution, problem.reason


def test_first_party_plugins_load_by_entry_point_too() -> None:
    plugins = load_plugins()

    assert plugins.transports.keys() >= FIRST_PARTY_SCHEMES
    assert plugins.problems == ()


def test_a_third_party_plugin_loads_when_its_distribution_is_named(shop: Shop) -> None:
    shop.install("carrot", GOOD)

    plugins = load_plugins(allow=["carrot-tunnel"])

    assert plugins.transports["carrot"].name == "carrot"
    assert plugins.problems == ()


def test_names_of_distributions_compare_as_on_the_package_index(shop: Shop) -> None:
    shop.install("carrot", GOOD)

    assert "carrot" in load_plugins(allow=["Carrot_Tunnel"]).transports


def test_code_of_a_distribution_that_is_not_named_is_never_run(shop: Shop) -> None:
    shop.install("carrot", GOOD)

    plugins = load_plugins()

    assert only_problem(plugins) == (
        "carrot",
        "carrot-tunnel",
        "distribution 'carrot-tunnel' is not in plugins.allow",
    )
    assert "carrot" not in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import a_library_that_is_missing", "ModuleNotFoundError: No module named"),
        ("answer = 42", "implements no hook; is @hookimpl missing?"),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            def circumvent_transport():
                return []
            """,
            "PluginValidationError: unknown hook 'circumvent_transport'",
        ),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            def circumvent_transports(config):
                return []
            """,
            "PluginValidationError: ",
        ),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            def circumvent_transports():
                return [1 / 0]
            """,
            "ZeroDivisionError: division by zero",
        ),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            async def circumvent_transports():
                return []
            """,
            "circumvent_transports is async; hooks only return objects",
        ),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            def circumvent_transports():
                return {"carrot"}
            """,
            "circumvent_transports gave set, not a sequence",
        ),
        (
            """
            from circumvent.api import hookimpl

            @hookimpl
            def circumvent_channels():
                return ["carrot"]
            """,
            "circumvent_channels gave str, no Channel",
        ),
        (GOOD.replace('name = "carrot"', ""), "Carrot lacks 'name'"),
        (GOOD.replace('("carrot",)', '"carrot"'), "Carrot lacks 'schemes'"),
        (GOOD.replace('("carrot",)', '("Carrot",)'), "Carrot: 'Carrot' is not a lower-case"),
        (GOOD.replace("def parse(self, link): ...", ""), "TypeError: Can't instantiate abstract"),
    ],
)
def test_a_broken_plugin_is_reported_by_name_and_the_rest_works(
    shop: Shop, source: str, reason: str
) -> None:
    shop.install("broken", source)
    shop.install("carrot", GOOD)

    plugins = load_plugins(allow=["carrot-tunnel"])

    name, distribution, told = only_problem(plugins)
    assert (name, distribution) == ("broken", "carrot-tunnel")
    assert told.startswith(reason)
    assert plugins.transports.keys() >= FIRST_PARTY_SCHEMES | {"carrot"}


def test_a_scheme_belongs_to_the_first_that_takes_it(shop: Shop) -> None:
    shop.install("carrot", GOOD)
    shop.install("other", GOOD.replace('name = "carrot"', 'name = "other"'), "z-tunnel")

    plugins = load_plugins(allow=["carrot-tunnel", "z-tunnel"])

    assert only_problem(plugins) == ("other", "z-tunnel", "link scheme 'carrot' is already taken")
    assert plugins.transports["carrot"].name == "carrot"


def test_no_plugin_takes_a_scheme_from_our_own(shop: Shop) -> None:
    shop.install("aardvark", GOOD.replace('("carrot",)', '("aardvark", "trojan")'), "aardvark")

    plugins = load_plugins(allow=["aardvark"])

    assert only_problem(plugins)[2] == "link scheme 'trojan' is already taken"
    assert plugins.transports["trojan"].name == "trojan"
    assert "aardvark" not in plugins.transports


@pytest.mark.parametrize("change", [('"carrot"', '"relay"'), ('("carrot",)', '("relay",)')])
def test_no_plugin_takes_the_place_of_the_transport_to_relays(
    shop: Shop, change: tuple[str, str]
) -> None:
    shop.install("carrot", GOOD.replace(*change))

    plugins = load_plugins(allow=["carrot-tunnel"])

    assert "'relay' is already taken" in only_problem(plugins)[2]
    relay = RelayTransport(plugins.carriers)
    assert plugins.with_relays(relay)["relay"] is relay
