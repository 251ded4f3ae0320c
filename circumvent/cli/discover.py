"""``circumvent discover``: ask sources once, and show what each of them answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from circumvent.api import Account, Fetch, Transport
from circumvent.cli import links as pasted
from circumvent.cli import text
from circumvent.cli.app import FAILURE
from circumvent.cli.options import (
    ENVIRONMENT,
    json_option,
    load_config,
    place_options,
    private_option,
)
from circumvent.config import Config
from circumvent.discovery.hunt import DiscoverySource, Find, fetch, fetch_list
from circumvent.discovery.list_reading import ListReading
from circumvent.discovery.origins import SUBSCRIPTION, Origin, is_origin, parse_origin
from circumvent.discovery.sources import discovery_account, lists_account, usable_sources
from circumvent.errors import ConfigError, LinkError, NoTunnelError
from circumvent.layers.tls.client import TlsClient
from circumvent.memory import Memory
from circumvent.net.dialer import NetDialer
from circumvent.plugins import Plugins, load_plugins
from circumvent.texts import read_text
from circumvent.wire.bundle import Trust
from circumvent.wire.keys import KeyKind, parse_key

HELP = """\
Ask sources for servers, one after the other, and show what each of them answered.

Nothing is kept, so this is safe to try. Without --source, all sources of your invites are asked.
KEY says whom to trust: it is an invite, a public key, or a file that holds one.

\b
  circumvent discover
  circumvent discover --source 'dns:list.example.org' --key operator.pub
  circumvent discover --source https://mirror.example.org/b --key 'circumvent://invite?...'
"""


@click.command(help=HELP, context_settings=ENVIRONMENT)
@click.option("--source", "sources", multiple=True, metavar="URL", help="May be given often.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="May be given often.")
@click.option("--threshold", type=click.IntRange(1), help="How many keys must sign; else all.")
@private_option
@place_options
@json_option
def discover(
    *,
    sources: tuple[str, ...],
    keys: tuple[str, ...],
    threshold: int | None,
    config_file: Path | None,
    as_json: bool,
    **options: object,
) -> None:
    """Fetch; the help is ``HELP``."""
    config = load_config(config_file, **options)
    plugins = load_plugins(config.plugins.allow)
    answers: list[dict[str, object]] = []
    for origin in _origins(config, sources, keys, threshold):
        asking = ask_all(origin, config, plugins, is_typed=bool(sources), quiet=as_json)
        finds = asyncio.run(asking)
        answers.extend(map(_public, finds))
    if as_json:
        click.echo(msgspec.json.encode(answers))
    if not any(answer["ok"] for answer in answers):
        raise SystemExit(FAILURE)


def _origins(
    config: Config, sources: Sequence[str], keys: Sequence[str], threshold: int | None
) -> list[Origin]:
    """What to ask and whom to trust; raises LinkError, ConfigError, NoTunnelError."""
    subscriptions = [parse_origin(url) for url in sources if url.startswith(SUBSCRIPTION)]
    signed = [url for url in sources if not url.startswith(SUBSCRIPTION)]
    if not keys:
        if signed:
            raise ConfigError("--key is missing: it says whose signature counts", stage="discover")
        links = [link.text for link in pasted.known_links(config)]
        known = [parse_origin(link) for link in links if is_origin(link)]
        if not (known or sources):
            raise NoTunnelError(
                "no invite is known: give --source and --key, or: circumvent init INVITE",
                stage="discover",
            )
        return subscriptions or known
    invited = [parse_origin(key) for key in keys if is_origin(key)]
    public = [_read_key(key) for key in keys if not is_origin(key)]
    if public:
        try:
            trust = Trust(tuple(public), threshold or len(public))
        except ValueError as error:
            raise ConfigError(f"--key: {error}", stage="discover") from None
        invited.append(Origin("by-hand", "", trust, ()))
    return subscriptions + [_with_sources(origin, signed) for origin in invited]


def _with_sources(origin: Origin, sources: Sequence[str]) -> Origin:
    """The origin with only the named sources, if any were named."""
    return replace(origin, first_sources=tuple(sources)) if sources else origin


def _read_key(key: str) -> bytes:
    path = Path(key)
    try:
        return parse_key(read_text(path) if path.is_file() else key, KeyKind.TRUSTED).raw
    except OSError as error:
        raise LinkError(f"--key: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise LinkError(f"--key: {error}") from None


async def ask_all(
    origin: Origin, config: Config, plugins: Plugins, *, is_typed: bool, quiet: bool
) -> list[Find]:
    """What each source of an origin answers; ``is_typed``: the user named it, and no invite did."""
    memory = Memory(config.memory_bytes, config.arena_bytes)
    account = discovery_account(memory, plugins.channels)
    direct = NetDialer(TlsClient(), config.socket_buffers)
    sources, problems = usable_sources(origin.sources, plugins.channels)
    if problems and not sources:
        raise LinkError("\n".join(problems))
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    finds = []
    transports = pasted.transports_of(plugins)
    for source in sources:
        typed = urlsplit(source.url).hostname or "" if is_typed else origin.typed_host
        dialer = direct.guarded(config.learnt_guard(typed))
        request = Fetch(source.url, dialer, account, {})
        find = await _ask(origin, source, request, transports, lists_account(memory))
        finds.append(find)
        if not quiet:
            click.echo(_line(find))
    return finds


async def _ask(
    origin: Origin,
    source: DiscoverySource,
    request: Fetch,
    transports: Mapping[str, Transport],
    lists: Account,
) -> Find:
    if origin.trust is not None:
        return await fetch(source, request, lambda data: origin.examine(data, time.time()))
    with closing(ListReading(origin, time.time(), transports, lists)) as reading:
        find = await fetch_list(source, request, reading)
    if told := reading.complaint():
        click.echo(f"warning: {told}", err=True)
    return find


def _line(find: Find) -> str:
    took = text.milliseconds(find.ms)
    if find.bundle is None:
        return f"{find.source.label}: {find.error} ({took})"
    bundle = find.bundle
    left = text.duration(bundle.expires - time.time())
    return (
        f"{find.source.label}: ok, list {bundle.version} with {bundle.count} servers,"
        f" good for {left} ({took})"
    )


def _public(find: Find) -> dict[str, object]:
    bundle = find.bundle
    return {
        "source": find.source.url,
        "channel": find.source.channel.name,
        "ok": bundle is not None,
        "verdict": find.error.stage if find.error else "ok",
        "reason": str(find.error) if find.error else "",
        "ms": round(find.ms, 1),
        "version": bundle.version if bundle else None,
        "expires": bundle.expires if bundle else None,
        "entries": list(bundle.entries) if bundle else [],
    }
