"""Turns checks of a live store, made over time, into metrics and alarms."""
