"""``circumvent bundle keygen`` and ``sign``."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from circumvent.cli import bundle_files as files
from circumvent.cli.bundle_options import (
    COUNT,
    FILE,
    LINKS_FILE,
    OUT_DIRECTORY,
    OUT_FILE,
    example,
    source_option,
)
from circumvent.cli.links import transports_of
from circumvent.cli.options import json_option
from circumvent.config import list_links
from circumvent.errors import BundleError, ConfigError, LinkError, UnsupportedError
from circumvent.plugins import load_plugins
from circumvent.tunnels.candidate import parse_candidate
from circumvent.wire import dsse
from circumvent.wire.bundle import Bundle, format_bundle, make_envelope, parse_bundle, read_payload
from circumvent.wire.dsse import Envelope
from circumvent.wire.keys import Key, KeyKind, generate

DAY = 24 * 3600
MAX_DAYS = 3650


@click.command(epilog=example("keygen --out authority"))
@click.option("--out", type=OUT_DIRECTORY, required=True, metavar="DIR", help="Where the files go.")
@click.option("--bucket", is_flag=True, help='Keys of a bucket instead: "bucket", "bucket.pub".')
@json_option
def keygen(*, out: Path, bucket: bool, as_json: bool) -> None:
    """Make a pair of keys: "key" for you alone, "key.pub" for everybody."""
    name, kind = ("bucket", KeyKind.BUCKET) if bucket else ("key", KeyKind.SIGNER)
    key = generate(kind)
    files.write_pair(out, name, key)
    public = key.public().text()
    if as_json:
        click.echo(msgspec.json.encode({"secret": str(out / name), "public": public}))
    else:
        click.echo(f"wrote {out / name} (keep it secret) and {out / name}.pub:\n{public}")


@click.command(epilog=example("sign --key key --links links.txt --version 1 --days 14 -o b"))
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    required=True,
    metavar="FILE...",
    help="A secret key to sign with; may be given often.",
)
@click.argument("more_keys", type=FILE, nargs=-1, metavar="")
@click.option("--links", type=LINKS_FILE, metavar="FILE", help='Share links, one a line; or "-".')
@click.option("--version", type=COUNT, metavar="N", help="Above that of the list before.")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), metavar="N", help="Until it expires.")
@source_option
@click.option(
    "--next",
    "next_keys",
    type=FILE,
    multiple=True,
    metavar="FILE.pub",
    help="A public key that is trusted from now on; may be given often. These must sign too.",
)
@click.option("--next-threshold", type=COUNT, metavar="N", help="How many of them; else all.")
@click.option(
    "--bucket", type=FILE, metavar="FILE", help='Seal to this bucket: "bucket.pub" or "bucket".'
)
@click.option("-o", "--out", type=OUT_FILE, required=True, metavar="BUNDLE", help="To write.")
@json_option
def sign(
    *,
    keys: tuple[Path, ...],
    more_keys: tuple[Path, ...],
    bucket: Path | None,
    out: Path,
    as_json: bool,
    **options: object,
) -> None:
    """Sign a list of links; without --links, add signatures to BUNDLE.

    When BUNDLE holds the same list already, its signatures are kept and these are added. Of a
    sealed one that can only be told with the bucket's secret key.
    """
    signers = [files.read_key(path, KeyKind.SIGNER) for path in (*keys, *more_keys)]
    sealed_to = files.read_key(bucket, KeyKind.BUCKET, KeyKind.SEALING) if bucket else None
    envelope = _choose_envelope(out, _make_bundle(msgspec.convert(options, NewList)), sealed_to)
    for signer in signers:
        envelope = dsse.sign(envelope, signer.raw)
    data = format_bundle(envelope)
    files.write_whole(out, data)
    names = [dsse.key_id(each.keyid) for each in envelope.signatures]
    if as_json:
        click.echo(msgspec.json.encode({"bundle": str(out), "bytes": len(data), "signers": names}))
    else:
        click.echo(f"wrote {out}: {len(data)} bytes, signed by {', '.join(names)}")


class NewList(msgspec.Struct, frozen=True):
    """The list to sign; without ``links`` there is none."""

    links: Path | None
    version: int | None
    days: int | None
    sources: tuple[str, ...]
    next_keys: tuple[Path, ...]
    next_threshold: int | None


def _make_bundle(new: NewList) -> Bundle | None:
    if new.links is None:
        return None
    if new.version is None or new.days is None:
        raise click.UsageError("--links needs --version and --days")
    now = int(time.time())
    return Bundle(
        version=new.version,
        issued=now,
        expires=now + new.days * DAY,
        entries=_entries(files.read_text(new.links)),
        sources=new.sources,
        next_trust=files.read_trust(new.next_keys, new.next_threshold) if new.next_keys else None,
    )


def _entries(text: str) -> tuple[str, ...]:
    """Links without repetition; raises LinkError for those that no client could use."""
    transports = transports_of(load_plugins())
    links = tuple(dict.fromkeys(list_links(text)))
    problems = []
    for number, link in enumerate(links, start=1):
        try:
            parse_candidate(link, transports)
        except UnsupportedError as error:
            click.echo(f"warning: link #{number}: {error} (signed all the same)", err=True)
        except LinkError as error:
            problems.append(f"link #{number}: {error}")
    if problems or not links:
        raise LinkError("\n".join(problems) or "links: there is none in the file", stage="link")
    return links


def _choose_envelope(out: Path, made: Bundle | None, sealed_to: Key | None) -> Envelope:
    """What to sign: the bundle that is there, or a new one."""
    there = parse_bundle(files.read_bundle(out)) if out.exists() else None
    if made is None:
        if there is None:
            raise click.UsageError(f"{out} is not there to be signed; give --links to make it")
        return there
    known = _read(there, sealed_to) if there else None
    if there and known and _says_the_same(known, made):
        return there
    if known and known.version >= made.version:
        raise ConfigError(
            f"{out} holds another list of version {known.version}: take a higher --version",
            stage="sign",
        )
    return make_envelope(made, sealed_to.public().raw if sealed_to else None)


def _read(envelope: Envelope, sealed_to: Key | None) -> Bundle | None:
    """What an envelope says, if we can tell."""
    try:
        return read_payload(envelope, sealed_to.raw if sealed_to else None)
    except BundleError:
        return None


def _says_the_same(there: Bundle, made: Bundle) -> bool:
    """Whether two lists differ only in the time when they were made."""
    return made == replace(there, issued=made.issued, expires=made.expires) and (
        there.expires - there.issued == made.expires - made.issued
    )
