"""Stores of bytes under keys."""
