"""The transports that come with circumvent; each is a plugin like any other."""
