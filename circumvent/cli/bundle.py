"""``circumvent bundle``: the operator's side of discovery."""

from __future__ import annotations

import click

from circumvent.cli.bundle_publish import invite, publish_dir, zone
from circumvent.cli.bundle_read import show, verify
from circumvent.cli.bundle_sign import keygen, sign

HELP = """\
Make, sign and publish lists of servers; docs/operator.md explains every step.

\b
Keys to sign with, and keys of a bucket: a group of users who get the same servers.
  circumvent bundle keygen --out authority
  circumvent bundle keygen --bucket --out friends
\b
Sign a list, check it, publish it:
  circumvent bundle sign --key authority/key --links links.txt --version 1 --days 14 \\
      --bucket friends/bucket.pub --source https://mirror.example/friends -o friends.bundle
  circumvent bundle verify --trust authority/key.pub --bucket friends/bucket friends.bundle
  circumvent bundle publish-dir --out www friends.bundle
\b
What a newcomer pastes:
  circumvent bundle invite --trust authority/key.pub --bucket friends/bucket \\
      --source https://mirror.example/friends --qr
"""


@click.group(help=HELP)
def bundle() -> None:
    """The help is ``HELP``."""


for command in (keygen, sign, verify, show, zone, publish_dir, invite):
    bundle.add_command(command)
