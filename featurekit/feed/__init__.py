"""Events become online states, and the log."""
