"""Turns repeated checks of a live store into metrics and alarms."""
