"""From a knock to a carrier of a session."""
