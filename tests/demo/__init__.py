"""What circumvent does, played on this machine for whoever looks at it for the first time."""
