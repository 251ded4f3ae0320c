"""Proofs that run the whole client as a user would."""
