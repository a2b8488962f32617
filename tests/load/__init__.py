"""A service under load, and whether each of its answers was right."""
