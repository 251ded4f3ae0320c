"""``python -m circumvent``."""

from circumvent.cli import main

main()
