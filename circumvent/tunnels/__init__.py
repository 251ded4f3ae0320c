"""Candidates, race, pool, health and the choice of a tunnel for each stream."""
