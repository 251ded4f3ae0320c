"""What the running client tells about itself: snapshot, events and the control socket."""
