"""Turns HTTP requests into answers of an online store; it loads no DuckDB and no feature repo."""
