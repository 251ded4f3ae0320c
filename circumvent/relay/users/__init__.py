"""Who may use the relay, how much, and what each user has used."""
