"""Where the streams of users may lead, and how they get there."""
