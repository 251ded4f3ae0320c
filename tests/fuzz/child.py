"""One target under atheris, which never returns: ``python -m tests.fuzz.child TARGET ...``."""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["circumvent", "circumvent_plugins", "base64", "urllib"]):
    from tests.fuzz.targets import TARGETS

name, *options = sys.argv[1:]
# libFuzzer starts its first argument again, by the shell, to merge inputs.
atheris.Setup([f"{sys.executable} -m tests.fuzz.child {name}", *options], TARGETS[name])
atheris.Fuzz()
