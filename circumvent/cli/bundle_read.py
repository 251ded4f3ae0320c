"""``circumvent bundle verify`` and ``show``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from circumvent.cli import bundle_files as files
from circumvent.cli import text
from circumvent.cli.bundle_options import FILE, bucket_option, example, trust_options
from circumvent.cli.options import json_option
from circumvent.errors import BundleError, Fault
from circumvent.wire.bundle import SEALED_TYPE, Bundle, open_bundle, parse_bundle, read_payload
from circumvent.wire.dsse import key_id
from circumvent.wire.keys import KeyKind


class Contents(msgspec.Struct, frozen=True):
    """What a bundle says, without the secrets of its links; times are unix seconds."""

    version: int
    issued: int
    expires: int
    entries: dict[str, int]
    sources: tuple[str, ...]
    next_keys: tuple[str, ...]
    next_threshold: int


class Shown(msgspec.Struct, frozen=True):
    """A bundle from outside and, if it could be read, what it says."""

    sealed: bool
    bytes: int
    signers: tuple[str, ...]
    contents: Contents | None


@click.command(epilog=example("verify --trust key.pub b"))
@trust_options
@bucket_option
@click.option(
    "--newest", type=click.IntRange(0), default=0, metavar="N", help="Refuse older versions."
)
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="BUNDLE")
@json_option
def verify(
    *,
    trusted: tuple[Path, ...],
    threshold: int | None,
    bucket: Path | None,
    newest: int,
    paths: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tell whether a client would take BUNDLE now: exit code 0 only if so.

    A sealed one is looked into as well; that needs the bucket's secret key.
    """
    *more_keys, path = paths
    trust = files.read_trust((*trusted, *more_keys), threshold)
    now = time.time()
    try:
        bundle = open_bundle(files.read_bundle(path), trust, _secret(bucket), now, newest)
    except BundleError as error:
        refusal = _explain(error, bucket)
        if as_json:
            verdict = {"ok": False, "fault": error.fault.name.lower(), "reason": str(refusal)}
            click.echo(msgspec.json.encode(verdict))
        raise refusal from error
    if as_json:
        click.echo(msgspec.json.encode({"ok": True, "contents": _contents(bundle)}))
    else:
        click.echo(f"good: version {bundle.version}, {_count(bundle)}, {_expiry(bundle, now)}")
    if behind := bundle.clock_behind(now):
        click.echo(f"warning: this machine's clock is {text.duration(behind)} behind", err=True)


@click.command(epilog=example("show b"))
@bucket_option
@click.option("--links", "only_links", is_flag=True, help="Only the links, secrets and all.")
@click.argument("path", type=FILE, metavar="BUNDLE")
@json_option
def show(*, bucket: Path | None, only_links: bool, path: Path, as_json: bool) -> None:
    """Show what BUNDLE says, whoever signed it: look before you sign.

    Of a sealed one only the outside is seen, unless the bucket's secret key is given.
    """
    data = files.read_bundle(path)
    envelope = parse_bundle(data)
    is_sealed = envelope.payload_type == SEALED_TYPE
    bundle = None
    if only_links or bucket or not is_sealed:
        try:
            bundle = read_payload(envelope, _secret(bucket))
        except BundleError as error:
            raise _explain(error, bucket) from error
    if only_links and bundle:
        click.echo("\n".join(bundle.entries))
        return
    shown = Shown(
        sealed=is_sealed,
        bytes=len(data),
        signers=tuple(key_id(each.keyid) for each in envelope.signatures),
        contents=_contents(bundle) if bundle else None,
    )
    click.echo(msgspec.json.encode(shown) if as_json else "\n".join(_lines(shown)))


def _secret(bucket: Path | None) -> bytes | None:
    return files.read_key(bucket, KeyKind.BUCKET).raw if bucket else None


def _explain(error: BundleError, bucket: Path | None) -> BundleError:
    """Say what to do about a sealed bundle."""
    if error.fault is Fault.NOT_FOR_YOU and bucket is None:
        return BundleError(error.fault, "it is sealed: name the bucket's secret key with --bucket")
    return error


def _contents(bundle: Bundle) -> Contents:
    trust = bundle.next_trust
    return Contents(
        version=bundle.version,
        issued=bundle.issued,
        expires=bundle.expires,
        entries=dict(Counter(link.partition(":")[0] for link in bundle.entries)),
        sources=bundle.sources,
        next_keys=tuple(map(key_id, trust.keys)) if trust else (),
        next_threshold=trust.threshold if trust else 0,
    )


def _lines(shown: Shown) -> Iterator[str]:
    yield f"size       {shown.bytes} bytes"
    yield f"signed by  {', '.join(shown.signers) or 'nobody'} (not verified)"
    if (says := shown.contents) is None:
        yield "contents   sealed"
        return
    yield f"contents   {'sealed to this bucket' if shown.sealed else 'open to everybody'}"
    yield f"version    {says.version}"
    yield f"issued     {_date(says.issued)}"
    yield f"expires    {_date(says.expires)}"
    yield f"entries    {', '.join(f'{count} {scheme}' for scheme, count in says.entries.items())}"
    for source in says.sources:
        yield f"source     {source}"
    if says.next_keys:
        yield f"next keys  {says.next_threshold} of {', '.join(says.next_keys)}"


def _count(bundle: Bundle) -> str:
    return "1 entry" if len(bundle.entries) == 1 else f"{len(bundle.entries)} entries"


def _expiry(bundle: Bundle, now: float) -> str:
    return f"expires in {text.duration(bundle.expires - now)}"


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
