"""A network in memory and an event loop in virtual time, for tests of policy."""
