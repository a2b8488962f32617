"""Turns labels and events into training rows."""
