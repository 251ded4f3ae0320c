"""``circumvent relay``: run a server end of bonded sessions."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
import msgspec

from circumvent.cli import text
from circumvent.cli.options import json_option
from circumvent.cli.output import never_wait
from circumvent.cli.qr import qr_code
from circumvent.errors import ConfigError
from circumvent.relay.config import UserEntry
from circumvent.relay.home import RelayHome
from circumvent.relay.status import RelayStatus
from circumvent.status.control import ask_for

HELP = """\
Run a relay: the server to which sessions over several carriers lead, behind a web site that is all
that strangers see. docs/relay.md explains every step.

\b
  circumvent relay init DIR --listen 0.0.0.0:443 --public relay.example:443
  circumvent relay run DIR
  circumvent relay invite DIR --qr
  circumvent relay status DIR
"""
USER_HEADER = ("USER", "SESSIONS", "CARRIERS", "STREAMS", "UP", "DOWN")
_WILDCARDS = ("0.0.0.0:", "[::]:")
_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(help=HELP)
def relay() -> None:
    """The help is ``HELP``."""


@relay.command()
@_DIRECTORY
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--public", metavar="HOST:PORT", help="Where users reach it; by default, --listen.")
@click.option("--cover", metavar="DIR|URL", help="The web site that strangers see.")
@click.option("--certificate", type=_FILE, metavar="FILE", help="TLS certificate chain in PEM.")
@click.option("--key", type=_FILE, metavar="FILE", help="Its key in PEM.")
@click.option(
    "--allow-private",
    is_flag=True,
    help="FOR LABS: let users reach this machine's own services and private networks.",
)
def init(
    *,
    directory: Path,
    listen: str,
    public: str | None,
    cover: str | None,
    certificate: Path | None,
    key: Path | None,
    allow_private: bool,
) -> None:
    """Make keys, a configuration and a first user in DIR.

    Without --cover, DIR/site is made and shown: put a web site of your own there. Without
    --certificate, TLS is self-signed; users' clients know the key, but a web site of this kind is
    rare.
    """
    from circumvent.relay import setup  # noqa: PLC0415 - imports what only this command needs

    if public is None and listen.startswith(_WILDCARDS):
        raise click.UsageError("--public is needed: where do users reach this relay?")
    if (certificate is None) is not (key is None):
        raise click.UsageError("--certificate and --key belong together")
    files = (certificate, key) if certificate is not None and key is not None else None
    wanted = setup.NewRelay(
        listen=listen,
        public=public or listen,
        cover=_absolute(cover) if cover else setup.SITE,
        certificate=files,
        allow_private=allow_private,
    )
    home = setup.create(directory, wanted)
    click.echo(f"made {directory}; start it with: circumvent relay run {directory}")
    if wanted.cover == setup.SITE:
        click.echo(f"put a web site of your own into {home.directory / setup.SITE}")
    _warn(home)


def _absolute(cover: str) -> str:
    return cover if cover.startswith("http://") else str(Path(cover).absolute())


@relay.command()
@_DIRECTORY
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Log what happens inside.")
def run(*, directory: Path, as_json: bool, verbose: bool) -> None:
    """Serve until a signal.

    SIGTERM or Ctrl-C: nothing new begins, and open streams may end; a second one stops at once.
    SIGHUP: users, limits, keys and certificates are read anew; sessions go on.
    """
    from circumvent.cli.relay_running import run_until_signalled  # noqa: PLC0415 - as above

    never_wait()
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING)
    home = RelayHome.load(directory)
    _warn(home)
    raise SystemExit(asyncio.run(run_until_signalled(home, as_json=as_json)))


@relay.command()
@_DIRECTORY
@click.option("--user", metavar="NAME", help="Of whom; by default, the first.")
@click.option("--new", "new_user", metavar="NAME", help="Make a new user of that name.")
@click.option("--qr", is_flag=True, help="Draw it as a QR code as well.")
@json_option
def invite(
    *, directory: Path, user: str | None, new_user: str | None, qr: bool, as_json: bool
) -> None:
    """Print the link by which a user reaches the relay. It is a secret: send it with care."""
    from circumvent.links.relay import format_relay_link  # noqa: PLC0415
    from circumvent.relay import setup  # noqa: PLC0415

    home = RelayHome.load(directory)
    entry = setup.add_user(home, new_user) if new_user else _find(home, user)
    link = format_relay_link(setup.make_invite(home, entry))
    click.echo(msgspec.json.encode({"user": entry.name, "link": link}) if as_json else link)
    if new_user:
        click.echo(f"a running relay lets {new_user} in after: kill -HUP its process", err=True)
    if qr:
        click.echo(qr_code(link), err=as_json)


@relay.command()
@_DIRECTORY
@json_option
def status(*, directory: Path, as_json: bool) -> None:
    """Show the running relay: its users, how much they use, and what you should know."""
    home = RelayHome.load(directory)
    answer = ask_for([home.control_socket], RelayStatus, f"circumvent relay run {directory}")
    click.echo(msgspec.json.encode(answer) if as_json else describe(answer))


def describe(status: RelayStatus) -> str:
    """The status for people."""
    memory = status.memory
    rows = [
        (
            user.name,
            str(user.sessions),
            str(user.carriers),
            str(user.streams),
            text.size(user.bytes_up),
            text.size(user.bytes_down),
        )
        for user in status.users
    ]
    summary = (
        f"listening on {status.listen}, {status.state}; {status.visitors} visitors now,"
        f" {status.visits} connections and {status.knocks} right knocks so far\n"
        f"memory: {text.size(memory.leased)} leased and {text.size(memory.charged)} charged"
        f" of {text.size(memory.budget)}; at most {text.size(memory.high_water)} so far"
    )
    table = text.table(USER_HEADER, rows) if rows else "there are no users"
    return "\n".join([summary, table, *(f"warning: {warning}" for warning in status.warnings)])


def _find(home: RelayHome, name: str | None) -> UserEntry:
    for user in home.users:
        if name in (None, user.name):
            return user
    whom = f"no user {name!r}" if name else "no user"
    raise ConfigError(f"there is {whom}; make one with: --new NAME", stage="invite")


def _warn(home: RelayHome) -> None:
    from circumvent.relay.warnings import warnings  # noqa: PLC0415

    for warning in warnings(home.config):
        click.secho(f"WARNING: {warning}", err=True, bold=True)
