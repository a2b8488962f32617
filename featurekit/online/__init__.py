"""Bytes under keys become the features of a row; a lookup loads neither DuckDB nor Arrow."""
