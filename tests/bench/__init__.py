"""Measures our client beside others, against the same server, in one run."""
