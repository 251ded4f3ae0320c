"""One arena for every buffer: leases, charges, accounts and the budget that they share."""

from circumvent.memory.account import Account, Memory
from circumvent.memory.arena import LARGEST, PAGE, anonymous
from circumvent.memory.lease import Lease
from circumvent.memory.ledger import SMALLEST_ARENA, Pressure

__all__ = [
    "LARGEST",
    "PAGE",
    "SMALLEST_ARENA",
    "Account",
    "Lease",
    "Memory",
    "Pressure",
    "anonymous",
]
