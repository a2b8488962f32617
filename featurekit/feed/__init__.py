"""Turns events into online states, and keeps them in the log."""
