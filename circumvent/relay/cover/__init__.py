"""The cover site: the web site that a relay shows to everybody who has not knocked."""
