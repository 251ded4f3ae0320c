"""One arena for every buffer: leases, charges, accounts and the budget that they share."""

from circumvent.memory.arena import LARGEST, PAGE
from circumvent.memory.budget import SMALLEST_ARENA, Account, Lease, Memory, Pressure

__all__ = ["LARGEST", "PAGE", "SMALLEST_ARENA", "Account", "Lease", "Memory", "Pressure"]
