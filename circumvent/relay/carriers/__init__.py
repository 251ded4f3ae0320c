"""From a right knock to a carrier of a session."""
