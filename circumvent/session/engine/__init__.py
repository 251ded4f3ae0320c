"""The session engine: bytes and frames in and out; it does no I/O."""
