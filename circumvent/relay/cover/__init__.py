"""The cover site: what a stranger sees of a relay."""
