"""The relay: the server end of bonded sessions, behind a web site that strangers see."""
