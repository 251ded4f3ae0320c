"""Sockets, TLS, names and the pump: what the api promises, over the machine's network."""
