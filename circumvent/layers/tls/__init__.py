"""TLS on any stream, as a client and as a server."""
