"""What the privacy floor leaves out, in words for the user."""

from __future__ import annotations

from collections.abc import Mapping

from circumvent.api import Privacy

_RISKS = {
    Privacy.UNVERIFIED: (
        "nobody vouches for their certificates, so whoever is in between when one is first used can"
        " read everything"
    ),
    Privacy.PLAIN: "anybody in between can read what goes through them",
    Privacy.DIRECT: "nothing is hidden",
}


def describe_floor(classes: Mapping[Privacy, int], floor: Privacy) -> str:
    """What is not used, and what a lower floor would give and risk; empty when all are used.

    ``classes`` says how many servers there are of each.
    """
    weaker = {
        each: classes[each]
        for each in sorted(classes, reverse=True)
        if each < floor and classes[each]
    }
    if not weaker:
        return ""
    left_out = sum(weaker.values())
    if left_out < sum(classes.values()):
        counts = ", ".join(f"{count} {each.name.lower()}" for each, count in weaker.items())
        return f"servers that hide less than --privacy asks for are not used: {counts}"
    best = max(weaker)
    return (
        f"no server is {floor.name.lower()}, and weaker ones are used only when asked for with"
        f" --privacy {best.name.lower()}: it would give {weaker[best]} of {left_out}, but"
        f" {_RISKS[best]}"
    )
