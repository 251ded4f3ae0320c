"""From a destination that a user asks for to a connection, if the policy allows it."""
