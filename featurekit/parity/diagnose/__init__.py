"""Why two paths differ: the difference shrunk, its cause, and how each value came about."""
