"""The ground: what a value, an instant, a key and a file are."""
