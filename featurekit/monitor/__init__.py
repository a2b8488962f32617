"""A live store, watched over time."""
