"""A function's text becomes a typed IR, and that becomes SQL and Python."""
