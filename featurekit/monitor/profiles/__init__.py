"""Profiles of what was served, kept by parts of time."""
