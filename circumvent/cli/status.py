"""``circumvent status``: what the running client is doing."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from circumvent.api import CarrierStatus
from circumvent.cli import text
from circumvent.cli.options import (
    ENVIRONMENT,
    inbound_options,
    json_option,
    load_config,
    place_options,
)
from circumvent.status import control
from circumvent.status.snapshot import Status

HEADER = ("TRANSPORT", "SERVER", "NAME", "STATE", "RTT", "STREAMS", "UP", "DOWN", "OPEN FOR")

HELP = """\
Show the running client: its tunnels, its memory, and what you should know.

With --check, one request goes through the local port: exit code 0 when it is answered, 1 when
not. A container's health check can use it.

\b
  circumvent status
  circumvent status --json
  circumvent status --check
"""


@click.command(help=HELP, context_settings=ENVIRONMENT)
@click.option("--check", is_flag=True, help="Pass one request through the local port.")
@inbound_options
@place_options
@json_option
def status(*, check: bool, config_file: Path | None, as_json: bool, **options: object) -> None:
    """Ask over the control socket; the help is ``HELP``."""
    config = load_config(config_file, **options)
    answer = control.ask(config.control_sockets)
    if check:
        from circumvent.cli.check import check_port  # noqa: PLC0415 - ``run`` shows status too

        ms = check_port(answer.listen, config.credentials(), config.probe_urls)
        click.echo(msgspec.json.encode({"ok": True, "ms": ms}) if as_json else f"ok ({ms:.0f} ms)")
    else:
        click.echo(msgspec.json.encode(answer) if as_json else describe(answer))


def describe(status: Status) -> str:
    """The status for people."""
    rows = tunnel_rows(status)
    parts = [summary(status), text.table(HEADER, rows) if rows else "no tunnel is up"]
    parts += [
        f"warning: {tunnel.transport} {tunnel.server}: {warning}"
        for tunnel in status.tunnels
        for warning in tunnel.warnings
    ]
    parts += [f"warning: {warning}" for warning in status.warnings]
    parts += [f"plugin left out: {problem}" for problem in status.problems]
    return "\n".join(parts)


def summary(status: Status) -> str:
    """Address and memory in two lines."""
    memory = status.memory
    return (
        f"listening on {status.listen}, privacy {status.privacy}, network {status.network}\n"
        f"memory: {text.size(memory.leased)} leased and {text.size(memory.charged)} charged"
        f" of {text.size(memory.budget)}; at most {text.size(memory.high_water)} so far"
    )


def tunnel_rows(status: Status) -> list[tuple[str, ...]]:
    """One row for each tunnel, below ``HEADER``, and behind it one for each of its carriers."""
    now = time.time()
    rows: list[tuple[str, ...]] = []
    for tunnel in status.tunnels:
        rows.append(
            (
                tunnel.transport,
                tunnel.server,
                tunnel.name,
                tunnel.state,
                text.milliseconds(tunnel.rtt_ms),
                str(tunnel.streams),
                text.size(tunnel.bytes_up),
                text.size(tunnel.bytes_down),
                text.duration(now - tunnel.opened_at),
            )
        )
        rows += [_carrier_row(carrier) for carrier in tunnel.carriers]
    return rows


def _carrier_row(carrier: CarrierStatus) -> tuple[str, ...]:
    return (
        f"- {carrier.kind}",
        "",
        "",
        carrier.state,
        text.milliseconds(carrier.rtt_ms),
        "",
        text.size(carrier.bytes_up),
        text.size(carrier.bytes_down),
        "",
    )
