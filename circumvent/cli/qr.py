"""Links as QR codes in a terminal."""

from __future__ import annotations

import io


def qr_code(link: str) -> str:
    """Two rows of modules in each line of text."""
    import segno  # noqa: PLC0415 - only this function needs it

    drawn = io.StringIO()
    segno.make_qr(link, error="l").terminal(drawn, compact=True)
    return drawn.getvalue()
