"""``circumvent servers``: the saved links."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from circumvent.api import Privacy
from circumvent.cli import links as pasted
from circumvent.cli import text
from circumvent.cli.app import FAILURE
from circumvent.cli.discover import ask_all
from circumvent.cli.init import save
from circumvent.cli.options import (
    ENVIRONMENT,
    json_option,
    load_config,
    place_options,
    private_option,
    probe_option,
)
from circumvent.cli.servers_check import check
from circumvent.cli.trial import Trial, try_server
from circumvent.config import Config
from circumvent.discovery.origins import Origin
from circumvent.errors import LocalError, NoTunnelError
from circumvent.plugins import Plugins, load_plugins
from circumvent.state.file import Need
from circumvent.state.servers import SavedServer
from circumvent.state.store import Store
from circumvent.tunnels.candidate import Candidate

HEADER = ("SERVER", "TRANSPORT", "NAME")

HELP = """\
Save share links, so that "circumvent run" needs none.

Links are kept in a file that only you can read. "-" reads them from standard input, which keeps
the secrets out of the list of processes and of the shell's history:

\b
  circumvent servers check links.txt
  circumvent servers add - < links.txt
  circumvent servers list
  circumvent servers test
  circumvent servers remove a1b2c3d4e5
  circumvent servers forget-certificate a1b2c3d4e5
"""


@click.group(help=HELP)
def servers() -> None:
    """The help is ``HELP``."""


servers.add_command(check)


@servers.command("list", context_settings=ENVIRONMENT)
@place_options
@json_option
def list_servers(*, config_file: Path | None, as_json: bool, **options: object) -> None:
    """List saved servers, without their secrets."""
    with _store(config_file, options, Need.READING) as store:
        saved = store.servers.all()
    if as_json:
        click.echo(msgspec.json.encode([_public(server) for server in saved]))
    elif saved:
        click.echo(text.table(HEADER, ((s.id, s.transport, s.name) for s in saved)))
    else:
        click.echo("no server is saved; add one with: circumvent servers add LINK")


@servers.command(context_settings=ENVIRONMENT)
@click.argument("links", nargs=-1, required=True, metavar="LINK...")
@place_options
@json_option
def add(
    *, links: tuple[str, ...], config_file: Path | None, as_json: bool, **options: object
) -> None:
    """Save servers.

    A LINK may also be a file or a text with links in it; an invite or a subscription is kept as
    "circumvent init" does. What cannot be used is named, and the others are saved. It is an error
    (exit code 3) only when none can be used.
    """
    config = load_config(config_file, **options)
    transports = pasted.transports_of(load_plugins(config.plugins.allow))
    parsed = pasted.parse_links(pasted.expand(links), transports)
    with closing(Store(config.state_file, need=Need.WRITING)) as store:
        origins, entries = save(store, parsed, config)
    _warn(parsed.complaints())
    if as_json:
        click.echo(msgspec.json.encode([*(e.id for e in entries), *(each.id for each in origins)]))
        return
    for entry in entries:
        click.echo(f"saved {pasted.label(entry)}")
    for origin in origins:
        click.echo(f"kept {'an invite' if origin.trust else 'a subscription'} {origin.id}")
    _warn(pasted.warnings(parsed.servers, ()))


@servers.command(context_settings=ENVIRONMENT)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@place_options
@json_option
def remove(
    *, ids: tuple[str, ...], config_file: Path | None, as_json: bool, **options: object
) -> None:
    """Forget servers."""
    with _store(config_file, options, Need.WRITING) as store:
        gone = store.servers.remove(ids)
        store.certificates.forget(ids)
    if as_json:
        click.echo(msgspec.json.encode(gone))
    unknown = [server_id for server_id, was_there in gone.items() if not was_there]
    if unknown:
        raise _not_saved(unknown)


@servers.command(context_settings=ENVIRONMENT)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@place_options
@json_option
def forget_certificate(
    *, ids: tuple[str, ...], config_file: Path | None, as_json: bool, **options: object
) -> None:
    """Accept the certificate that a server shows next.

    For servers whose links turn verification off (allowInsecure): the first certificate that worked
    is remembered, and another one is refused. Ask the server's operator first whether it was
    changed; if not, somebody is in between.
    """
    with _store(config_file, options, Need.WRITING) as store:
        gone = store.certificates.forget(ids)
    if as_json:
        click.echo(msgspec.json.encode(gone))
    unknown = [server_id for server_id, was_there in gone.items() if not was_there]
    if unknown:
        raise LocalError(f"no certificate is remembered of: {', '.join(sorted(unknown))}")


@servers.command(context_settings=ENVIRONMENT)
@click.argument("wanted", nargs=-1, metavar="[ID|LINK]...")
@probe_option
@private_option
@place_options
@json_option
def test(
    *, wanted: tuple[str, ...], config_file: Path | None, as_json: bool, **options: object
) -> None:
    """Try servers one after the other: a page must come through.

    Only a probe is sent, so servers that --privacy would leave out are tried too. Without
    arguments, all saved servers and those of the configuration are tried. A link that cannot be
    used is named, and not tried; the exit code counts only servers that were tried.
    """
    config = load_config(config_file, **options)
    plugins = load_plugins(config.plugins.allow)
    trials = []
    servers = pasted.usable(_choose(wanted, config, plugins), Privacy.DIRECT)
    with closing(Store(config.state_file)) as store:
        for server in servers:
            trials.append(asyncio.run(try_server(server, config, store)))
            if not as_json:
                click.echo(_verdict(server, trials[-1]))
    if as_json:
        click.echo(msgspec.json.encode(trials))
    if not all(trial.ok for trial in trials):
        raise SystemExit(FAILURE)


def _choose(wanted: Sequence[str], config: Config, plugins: Plugins) -> list[Candidate]:
    given = [word for word in wanted if pasted.is_link(word)]
    ids = set(wanted).difference(given)
    transports = pasted.transports_of(plugins)
    servers: list[Candidate] = []
    if given:
        parsed = pasted.parse_links(pasted.expand(given), transports)
        _warn(parsed.complaints())
        servers += parsed.servers
        for origin in parsed.origins:
            servers += _listed(origin, config, plugins)
    if ids or not given:
        parsed = pasted.parse_links(pasted.known_links(config), transports)
        _warn(parsed.complaints() if not ids else ())
        servers += [server for server in parsed.servers if not ids or server.id in ids]
    if unknown := ids.difference(server.id for server in servers):
        raise _not_saved(unknown)
    return servers


def _listed(origin: Origin, config: Config, plugins: Plugins) -> list[Candidate]:
    """The servers of an origin as its sources name them now; raises NoTunnelError."""
    finds = asyncio.run(ask_all(origin, config, plugins, is_typed=False, quiet=True))
    links = [link for find in finds if find.bundle for link in find.bundle.entries]
    if not links:
        reasons = "; ".join(f"{find.source.label}: {find.error}" for find in finds)
        raise NoTunnelError(f"no server was found: {reasons}", stage="discover")
    listed = [pasted.PastedLink(link, f"server #{at}") for at, link in enumerate(links, start=1)]
    parsed = pasted.parse_links(listed, pasted.transports_of(plugins))
    _warn(parsed.complaints())
    return [replace(server, is_learnt=True) for server in parsed.servers]


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _not_saved(ids: Iterable[str]) -> LocalError:
    return LocalError(f"not saved: {', '.join(sorted(ids))}; see: circumvent servers list")


@contextmanager
def _store(config_file: Path | None, options: dict[str, object], need: Need) -> Iterator[Store]:
    config = load_config(config_file, **options)
    with closing(Store(config.state_file, need=need)) as store:
        yield store


def _public(server: SavedServer) -> dict[str, str]:
    return {"id": server.id, "transport": server.transport, "name": server.name}


def _verdict(server: Candidate, trial: Trial) -> str:
    result = f"ok ({trial.ms:.0f} ms)" if trial.ok else f"failed: {trial.reason}"
    return f"{pasted.label(server.entry)}: {result}"
