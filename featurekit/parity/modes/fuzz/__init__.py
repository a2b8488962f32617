"""The fuzzer: what it draws, and how it plays that."""
