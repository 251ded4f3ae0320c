"""Finds servers: channels are raced until one brings a bundle that verifies."""
