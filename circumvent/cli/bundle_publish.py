"""``circumvent bundle zone``, ``publish-dir`` and ``invite``."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from circumvent.cli import bundle_files as files
from circumvent.cli.bundle_options import (
    COUNT,
    FILE,
    OUT_DIRECTORY,
    bucket_option,
    example,
    source_option,
    trust_options,
)
from circumvent.cli.options import json_option
from circumvent.cli.qr import qr_code
from circumvent.errors import ConfigError
from circumvent.links.invite import Invite, format_invite
from circumvent.wire.bundle import parse_bundle
from circumvent.wire.dns_chunks import zone_file
from circumvent.wire.host_port import parse_host
from circumvent.wire.keys import KeyKind
from circumvent.wire.link_text import check_text

MAX_TTL = 86400


def _host(_context: click.Context, _option: click.Parameter, name: str) -> str:
    return parse_host(name.rstrip("."))


@click.command(
    epilog=example("zone --zone b.example.org --name-server ns.example.org b > b.example.org.zone")
)
@click.option("--zone", callback=_host, required=True, metavar="NAME", help="The zone's name.")
@click.option(
    "--name-server",
    callback=_host,
    required=True,
    metavar="HOST",
    help="The server of the zone: the name to which the zone above delegates.",
)
@click.option(
    "--ttl",
    type=click.IntRange(60, MAX_TTL),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long resolvers keep an answer.",
)
@click.option("--serial", type=COUNT, metavar="N", help="Of the SOA record; by default, the time.")
@click.argument("path", type=FILE, metavar="BUNDLE")
def zone(*, zone: str, name_server: str, ttl: int, serial: int | None, path: Path) -> None:
    """Print a zone file with BUNDLE in it, for BIND, Knot and others (RFC 1035)."""
    if f".{name_server}".endswith(f".{zone}"):
        raise click.BadParameter(
            f"must lie outside of {zone}, or it would need an address in there",
            param_hint="--name-server",
        )
    data = files.read_bundle(path)
    parse_bundle(data)
    serial = int(time.time()) if serial is None else serial
    click.echo(zone_file(zone, data, serial=serial, ttl=ttl, name_server=name_server), nl=False)


@click.command("publish-dir", epilog=example("publish-dir --out www friends.bundle"))
@click.option(
    "--out", type=OUT_DIRECTORY, required=True, metavar="DIR", help="What the web host serves."
)
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="BUNDLE...")
@json_option
def publish_dir(*, out: Path, paths: tuple[Path, ...], as_json: bool) -> None:
    """Put bundles into a directory for any web host or CDN, each under its own name.

    Each file is replaced at once, so that no client fetches half of one.
    """
    bundles = {path.name: files.read_bundle(path) for path in paths}
    if len(bundles) < len(paths):
        raise ConfigError("two bundles have the same file name: rename one", stage="publish")
    for data in bundles.values():
        parse_bundle(data)
    out.mkdir(parents=True, exist_ok=True)
    # A server that lists directories shows this empty page instead.
    for name, data in {"index.html": b"", **bundles}.items():
        files.write_whole(out / name, data)
    click.echo(msgspec.json.encode(list(bundles)) if as_json else "\n".join(bundles))


@click.command(epilog=example("invite --trust key.pub --source https://mirror.example/b --qr"))
@trust_options
@bucket_option
@source_option
@click.option("--name", default="", metavar="TEXT", help="What the newcomer sees it called.")
@click.option("--qr", is_flag=True, help="Show a QR code as well.")
@click.argument("more_trusted", type=FILE, nargs=-1, metavar="")
@json_option
def invite(
    *,
    trusted: tuple[Path, ...],
    threshold: int | None,
    bucket: Path | None,
    sources: tuple[str, ...],
    name: str,
    qr: bool,
    more_trusted: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print the link that a newcomer needs. With --bucket it is a secret: send it with care."""
    if not sources:
        raise click.UsageError("--source is needed: where does the newcomer ask first?")
    made = Invite(
        trust=files.read_trust((*trusted, *more_trusted), threshold),
        sources=sources,
        bucket=files.read_key(bucket, KeyKind.BUCKET).raw if bucket else None,
        name=name,
    )
    link = check_text(format_invite(made))
    click.echo(msgspec.json.encode({"id": made.id, "link": link}) if as_json else link)
    if qr:
        click.echo(qr_code(link), err=as_json)
