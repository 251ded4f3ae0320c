"""Who may use the relay, and how much."""
