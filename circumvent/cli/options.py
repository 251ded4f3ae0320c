"""Options that several commands share, and how they become a configuration.

Each option can also come from the environment: ``--state-dir`` is ``CIRCUMVENT_STATE_DIR``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from circumvent.config import Config, load

ENVIRONMENT = {"auto_envvar_prefix": "CIRCUMVENT"}

Command = TypeVar("Command", bound=Callable[..., None])

CONFIG_KEYS = {"probe_url": "probe_urls"}  # an option that is given many times has a singular name


probe_option = click.option(
    "--probe-url",
    multiple=True,
    metavar="URL",
    help="http:// page that answers 204 through a working tunnel; may be given often.",
)


def place_options(command: Command) -> Command:
    """``--config`` and ``--state-dir``."""
    for option in (
        click.option(
            "--state-dir",
            metavar="DIR",
            help="Where saved servers, what worked and the control socket are.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            envvar="CIRCUMVENT_CONFIG",
            metavar="FILE",
            help="TOML file; by default circumvent.toml in the user's configuration directory.",
        ),
    ):
        command = option(command)
    return command


def inbound_options(command: Command) -> Command:
    """``--user``, ``--password-file`` and ``--probe-url``: what a check of the local port needs."""
    for option in (
        probe_option,
        click.option(
            "--password-file",
            metavar="FILE",
            help="Password of the local port, in a file of mode 0600.",
        ),
        click.option("--user", metavar="NAME", help="User of the local port."),
    ):
        command = option(command)
    return command


private_option = click.option(
    "--allow-private",
    is_flag=True,
    default=None,
    help="For labs: names, lists and invites may lead to this machine and private networks.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load_config(config_file: Path | None, **options: object) -> Config:
    """The configuration with the options that were given; raises ConfigError."""
    given = {
        CONFIG_KEYS.get(name, name): value
        for name, value in options.items()
        if value not in (None, ())
    }
    return load(config_file, given)
