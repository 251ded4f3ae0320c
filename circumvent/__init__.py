"""Reach the free internet: several raced tunnels behind one local port."""
