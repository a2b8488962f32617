"""Both paths, asked the same and compared bit for bit."""
