"""How the demo talks."""

import subprocess
import sys
from collections.abc import Mapping


def say(line: str) -> None:
    """Print at once, before what commands print."""
    print(line, flush=True)


def show(command: str, environment: Mapping[str, str]) -> None:
    """Run a command of ours as a user would."""
    say(f"$ circumvent {command}")
    words = [sys.executable, "-m", "circumvent", *command.split()]
    subprocess.run(words, env=environment, check=True, timeout=20)
