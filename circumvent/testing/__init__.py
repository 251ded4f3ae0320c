"""Conformance suites, for our own streams, layers and plugins and for those of others."""
