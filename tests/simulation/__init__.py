"""A year of a shop, replayed in minutes against the real parts: `python -m tests.simulation`."""
