"""The status of the running client: snapshot, events and the control socket."""
