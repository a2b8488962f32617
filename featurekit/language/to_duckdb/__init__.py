"""Lowers a transform's IR to DuckDB's SQL."""
