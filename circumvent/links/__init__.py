"""Share links: read, written, and found in what people paste."""
