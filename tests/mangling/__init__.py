"""Bytes that were mangled, and what reads them."""
