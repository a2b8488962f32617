"""Whether the values of features drift away from a reference."""
