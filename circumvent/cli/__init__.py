"""The command line: ``circumvent run|servers|status|why``. Importing it loads click only."""

from circumvent.cli.app import main

__all__ = ["main"]
