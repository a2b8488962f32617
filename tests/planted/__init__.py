"""Skews, planted one at a time into one path, that the parity checker must find.

`python -m tests.planted` plants each of them, and prints what found it.
"""
