"""Which template a link's ``fp`` stands for."""

from __future__ import annotations

from dataclasses import replace
from random import SystemRandom

from circumvent.wire.tls13.browsers import TEMPLATES
from circumvent.wire.tls13.templates import Template

_RANDOM = SystemRandom()
_WEIGHTS = {"chrome": 6, "safari": 2, "ios": 2, "firefox": 1, "edge": 1}  # roughly who is who
_NEWEST = 4  # GREASE and the suites of TLS 1.3, which no hello of ours can do without


def find_template(name: str) -> Template:
    """The template called ``name``; Chrome where there is no such name, as there is for none.

    "random" draws a browser, "randomized" makes up a hello that no browser sends.
    """
    if name == "random":
        name = _RANDOM.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    if name.startswith("randomized"):
        return _randomize(TEMPLATES["chrome"])
    return TEMPLATES.get(name, TEMPLATES["chrome"])


def _randomize(template: Template) -> Template:
    """The ciphers of TLS 1.2 in a new order, some of them left out."""
    old = template.ciphers[_NEWEST:]
    kept = _RANDOM.sample(old, _RANDOM.randint(len(old) // 2, len(old)))
    return replace(template, name="randomized", ciphers=template.ciphers[:_NEWEST] + tuple(kept))
