"""Turns a function's text into typed IR, and that into SQL and Python."""
