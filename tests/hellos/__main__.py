"""``make hellos``: holds our ClientHellos against those of the browsers on this machine.

They are captured on loopback: pages, WebSockets, and both with a ticket. What differs is printed,
and ends the command with 1. ``--write`` takes what the browsers say over into the code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from circumvent.wire.tls13.captured import READ_FROM
from circumvent.wire.tls13.choice import find_template
from tests.hellos.browsers import BROWSERS, Captured, capture, major
from tests.hellos.form import ja4
from tests.hellos.templates import SOURCE, compare, read_off, source


def main() -> int:
    """Capture, compare, print; perhaps write."""
    parser = argparse.ArgumentParser(prog="python -m tests.hellos", description=__doc__)
    parser.add_argument("--write", action="store_true", help="take over what newer browsers say")
    parser.add_argument("browsers", nargs="*", default=list(BROWSERS), metavar="browser")
    chosen = parser.parse_args()
    templates = {name: find_template(name) for name in BROWSERS}
    versions, differs = dict(READ_FROM), False
    for name in chosen.browsers:
        captured = capture(BROWSERS[name])
        lines = list(compare(templates[name], captured))
        _tell(name, captured, lines)
        differs |= bool(lines)
        if captured.major >= major(READ_FROM[name]):
            templates[name] = read_off(name, captured)
            versions[name] = captured.version
    if chosen.write:
        SOURCE.write_text(source(templates, versions))
        subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", SOURCE], check=True)
        return 0
    return differs


def _tell(name: str, captured: Captured, lines: list[str]) -> None:
    print(f"{name}: {captured.version} here, ours is of {READ_FROM[name]}")
    for use, _, records in captured.uses:
        prints = ", ".join(sorted(set(map(ja4, records)))) or "none came"
        print(f"  {use}: {len(records)} captured, JA4 {prints}")
    for line in lines or ["nothing differs but what is drawn anew each time"]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
