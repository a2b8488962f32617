"""Keeps pushed events, tombstones and served rows in files beside the feature repo."""
