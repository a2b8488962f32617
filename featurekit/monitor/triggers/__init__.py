"""Looks at what a store serves, and does what the settings say where something has happened."""
