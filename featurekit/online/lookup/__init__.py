"""Turns states into the features of a row."""
