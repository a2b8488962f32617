"""States become the features of a row."""
