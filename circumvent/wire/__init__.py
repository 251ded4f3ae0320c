"""Codecs that know formats and no I/O."""
