"""What the kernel says about a process: CPU time and memory."""

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
FIRST_TIME_FIELD = 11  # utime, counted from the field after the name; stime follows


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[FIRST_TIME_FIELD : FIRST_TIME_FIELD + 2]
    return (int(user) + int(system)) / TICKS_PER_SECOND


def dirty_kib(pid: int) -> int:
    """Memory that the process alone has written, in KiB.

    Shared anonymous memory counts too while nobody else maps it.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise LookupError("smaps_rollup has no Private_Dirty")
